"""svd"""


class SVD:
    pass
