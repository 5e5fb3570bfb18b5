# The door of a kernel: once a block it compares the shapes of its arguments with those that its loops rely on. Loops go
# through raw pointers, so with a wrong shape they would read or write memory of others. Values, such as labels, are not
# checked.


cdef int refuse_shape(str name, tuple expected, tuple got) except -1:
    raise ValueError(f"{name}: expected shape {expected}, got {got}")


cdef inline int check_1d(str name, const Py_ssize_t* got, Py_ssize_t n) except -1:
    if got[0] != n:
        refuse_shape(name, (n,), (got[0],))
    return 0


cdef inline int check_2d(str name, const Py_ssize_t* got, Py_ssize_t rows, Py_ssize_t columns) except -1:
    if got[0] != rows or got[1] != columns:
        refuse_shape(name, (rows, columns), (got[0], got[1]))
    return 0


cdef inline int check_3d(str name, const Py_ssize_t* got, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) except -1:
    if got[0] != a or got[1] != b or got[2] != c:
        refuse_shape(name, (a, b, c), (got[0], got[1], got[2]))
    return 0


cdef inline int check_least(str name, Py_ssize_t got, Py_ssize_t least) except -1:
    if got < least:
        raise ValueError(f"{name}: expected at least {least}, got {got}")
    return 0


cdef inline int check_most(str name, Py_ssize_t got, Py_ssize_t most) except -1:
    if got > most:
        raise ValueError(f"{name}: expected at most {most}, got {got}")
    return 0


cdef inline int check_multiple(str name, Py_ssize_t got, Py_ssize_t unit) except -1:
    if got % unit:
        raise ValueError(f"{name}: expected a multiple of {unit}, got {got}")
    return 0
