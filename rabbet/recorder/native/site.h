// Site: where in the user's code something was recorded. Lines are resolved only when shown.
#pragma once

#include "ref.h"

namespace rabbet {

struct Site {
    Ref code; // empty: nothing but the package itself is running
    int lasti = 0;
};

// The nearest frame outside this package.
Site user_site();

bool prepare_sites();

} // namespace rabbet
