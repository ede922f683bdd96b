#include "arguments.hpp"

#include "scan_contract.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>

namespace scan {

const char *const usage = R"(usage:
  scan --bundle B.zip FILE...        answer PNG, DICOM and raw files, one line a frame
  scan --bundle B.zip --selftest     check this device with the bundle's golden samples
  scan --bundle B.zip --bench N      run the first golden sample N times

options:
  --raw HEIGHTxWIDTHxCHANNELS   files are raw frames of this size
  --threads N                   of the runtime, 1 unless it is given
  --marks                       pass marks that an emulator can count between
  --operators                   with --bench: tell what each operator takes
)";

namespace {

constexpr unsigned long most_repeats = 1'000'000;
constexpr unsigned long most_threads = 64;
constexpr unsigned long most_side_px = 16384;

[[noreturn]] void refuse(const std::string &problem)
{
    throw Refusal(Exit::usage, "", problem + " `scan --help` says how to call it.");
}

// Reads a whole number from 1 to `most` and moves past it.
unsigned long number(const char *&text, unsigned long most, const std::string &what)
{
    char *end = nullptr;
    const unsigned long value = *text >= '0' && *text <= '9' ? std::strtoul(text, &end, 10) : 0;
    if (value < 1 || value > most) {
        refuse(what + " must be a whole number from 1 to " + std::to_string(most) + ".");
    }
    text = end;
    return value;
}

unsigned only_number(const char *text, unsigned long most, const std::string &what)
{
    const unsigned long value = number(text, most, what);
    if (*text != '\0') {
        refuse(what + " must be a whole number.");
    }
    return static_cast<unsigned>(value);
}

RawShape raw_shape(const char *text)
{
    unsigned long sides[3] = {};
    for (unsigned long &side : sides) {
        side = number(text, most_side_px, "each side of --raw");
        const bool last = &side == std::end(sides) - 1;
        if (*text != (last ? '\0' : 'x')) {
            refuse("--raw takes HEIGHTxWIDTHxCHANNELS, such as 480x640x1.");
        }
        text += last ? 0 : 1;
    }
    return {
        static_cast<std::uint32_t>(sides[0]), static_cast<std::uint32_t>(sides[1]),
        static_cast<std::uint32_t>(sides[2]),
    };
}

void require_sense(const Arguments &arguments)
{
    if (arguments.bundle.empty()) {
        refuse("--bundle is missing.");
    }
    if ((arguments.task == Task::frames) == arguments.files.empty()) {
        refuse("give either files, or --selftest, or --bench.");
    }
    if (arguments.operators && arguments.task != Task::bench) {
        refuse("--operators goes with --bench.");
    }
    if (arguments.raw && arguments.task != Task::frames) {
        refuse("--raw goes with files.");
    }
    if (arguments.raw && scan_build::reads_signals) {
        refuse("--raw goes with images: the contract states the size of a signal.");
    }
}

} // namespace

Arguments read_arguments(int count, const char *const *values)
{
    Arguments arguments;
    int at = 1;
    const auto value_of = [&](const std::string &option) {
        if (++at >= count) {
            refuse(option + " needs a value.");
        }
        return values[at];
    };
    const auto choose = [&](Task task) {
        if (arguments.task != Task::frames) {
            refuse("give either --selftest or --bench, and once.");
        }
        arguments.task = task;
    };
    for (bool options = true; at < count; ++at) {
        const std::string word = values[at];
        if (!options || word.empty() || word[0] != '-') {
            arguments.files.push_back(word);
        } else if (word == "--") {
            options = false;
        } else if (word == "--bundle") {
            arguments.bundle = value_of(word);
        } else if (word == "--selftest") {
            choose(Task::selftest);
        } else if (word == "--bench") {
            choose(Task::bench);
            arguments.repeats = only_number(value_of(word), most_repeats, word);
        } else if (word == "--threads") {
            arguments.threads = only_number(value_of(word), most_threads, word);
        } else if (word == "--raw") {
            arguments.raw = raw_shape(value_of(word));
        } else if (word == "--marks") {
            arguments.marks = true;
        } else if (word == "--operators") {
            arguments.operators = true;
        } else {
            refuse(word + " is no option.");
        }
    }
    require_sense(arguments);
    return arguments;
}

} // namespace scan
