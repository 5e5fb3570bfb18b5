"""cli"""


def main():
    raise NotImplementedError
