"""compress"""


def compress(*args, **kwargs):
    raise NotImplementedError


class Compressed:
    pass
