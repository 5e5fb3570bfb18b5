"""abundances"""


def abundances(*args, **kwargs):
    raise NotImplementedError
