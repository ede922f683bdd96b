// Points of a run between which an emulator counts instructions, and a clock reads the time.
#ifndef SCAN_MARKS_HPP
#define SCAN_MARKS_HPP

#include <cstdint>
#include <vector>

namespace scan {

enum class Mark : int {
    started = 1,
    ready = 2, // the bundle is verified, the model is loaded
    done = 3,
    preparing = 10,
    prepared = 11,
    inferring = 20,
    inferred = 21,
    answering = 30,
    answered = 31,
};

// Monotonic, in nanoseconds.
std::uint64_t clock_ns();

// Passes marks, and remembers when; does nothing unless it is switched on.
class Marks {
public:
    explicit Marks(bool on);

    void pass(Mark mark);

    // One line a mark: at the end of a run, so that no printing lies between marks.
    void print() const;

private:
    struct Passed {
        Mark mark;
        std::uint64_t clock_ns;
    };

    bool on_;
    std::vector<Passed> passed_;
};

} // namespace scan

#endif
