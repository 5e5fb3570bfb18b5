"""windows"""


class WindowFFT:
    pass


class WindowMatrix:
    pass
