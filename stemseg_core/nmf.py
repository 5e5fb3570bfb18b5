"""nmf"""


class NMF:
    pass
