/* Includes a template twice: functions and types named TYPED(name) of numbers REAL become name_float and name_double.
 *
 *     #define TEMPLATE "gram.h"
 *     #include "float_and_double.h"
 *
 * A template has no include guard. What it defines once, for both types, stands in a guard of its own. */

#define REAL float
#define REAL_BYTES 4
#define TYPED(name) name##_float
#include TEMPLATE
#undef REAL
#undef REAL_BYTES
#undef TYPED
#define REAL double
#define REAL_BYTES 8
#define TYPED(name) name##_double
#include TEMPLATE
#undef REAL
#undef REAL_BYTES
#undef TYPED
#undef TEMPLATE
