// What holds within a `with` block. GradMode: whether ops record for gradients. Autocast: which dtype narrow ops get.
#pragma once

#include "tape.h"

#include <vector>

namespace rabbet {

// Native so that Ctrl-C cannot come between leaving the block and restoring what held before it.
class GradMode {
  public:
    explicit GradMode(bool enabled) : enabled_(enabled) {}

    // False and an error where there is no tape.
    bool enter() {
        Tape *tape = current_tape();
        if (tape) {
            before_.push_back(tape->grad_enabled);
            tape->grad_enabled = enabled_;
        }
        return tape != nullptr;
    }

    bool leave() {
        Tape *tape = current_tape();
        if (tape && !before_.empty()) {
            tape->grad_enabled = before_.back();
            before_.pop_back();
        }
        return tape != nullptr;
    }

  private:
    bool enabled_;
    std::vector<bool> before_; // an instance may be entered again within itself
};

class Autocast {
  public:
    // nullptr: none.
    explicit Autocast(PyObject *narrow) : narrow_(Ref::borrow(narrow)) {}

    bool enter() {
        Tape *tape = current_tape();
        if (tape) {
            before_.push_back(Ref::borrow(tape->narrow));
            put(tape->narrow, narrow_.get());
        }
        return tape != nullptr;
    }

    bool leave() {
        Tape *tape = current_tape();
        if (tape && !before_.empty()) {
            put(tape->narrow, before_.back().get());
            before_.pop_back();
        }
        return tape != nullptr;
    }

  private:
    Ref narrow_;
    std::vector<Ref> before_;
};

} // namespace rabbet
