/* Filling in errors. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>

int rb_fail(rb_error *error, int code, const char *format, ...) {
    if (error) {
        *error = (rb_error){.code = code, .call = -1, .element = -1, .value = -1, .extent = -1};
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return code;
}
