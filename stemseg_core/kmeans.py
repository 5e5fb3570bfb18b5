"""kmeans"""


class KMeans:
    pass
