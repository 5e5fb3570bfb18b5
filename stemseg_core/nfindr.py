"""nfindr"""


class NFINDR:
    pass
