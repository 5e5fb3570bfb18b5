"""ica"""


class ICA:
    pass
