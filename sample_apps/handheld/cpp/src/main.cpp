// Answers frames with a bundle's model, and proves first that this device answers as the
// bundle promises. README.md documents every line that is printed.
#include "arguments.hpp"
#include "bundle.hpp"
#include "digest.hpp"
#include "golden.hpp"
#include "json_line.hpp"
#include "marks.hpp"
#include "model_contract.hpp"
#include "runtime.hpp"
#include "scan_contract.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <sys/resource.h>
#include <sys/utsname.h>

namespace scan {
namespace {

// All that one frame needs on its way to an answer.
class Program {
public:
    Program(const Bundle &bundle, const Arguments &arguments, Marks &marks)
        : marks_(marks), runtime_(bundle.model, arguments.threads, Profiling::off)
    {
    }

    InputTensor prepare(const Frame &frame)
    {
        marks_.pass(Mark::preparing);
        InputTensor input = contract_.prepare(frame);
        marks_.pass(Mark::prepared);
        return input;
    }

    OutputTensor infer(const InputTensor &input)
    {
        marks_.pass(Mark::inferring);
        OutputTensor output = runtime_.run(input);
        marks_.pass(Mark::inferred);
        return output;
    }

    Answer answer(const OutputTensor &output, const Frame &frame)
    {
        marks_.pass(Mark::answering);
        Answer answer = contract_.answer(output, frame);
        marks_.pass(Mark::answered);
        return answer;
    }

private:
    Marks &marks_;
    ModelContract contract_;
    Runtime runtime_;
};

template <typename Number> Bytes bytes_of(const std::vector<Number> &tensor)
{
    Bytes bytes(tensor.size() * sizeof(Number));
    std::memcpy(bytes.data(), tensor.data(), bytes.size());
    return bytes;
}

std::string digest_of(const OutputTensor &output)
{
    return sha256(output.data(), output.size() * sizeof output[0]);
}

// How far an output is from the golden one.
struct Difference {
    double largest;
    bool within;
};

// Returns golden bytes as numbers of the output's type.
OutputTensor golden_tensor(const Bytes &golden, std::size_t values)
{
    OutputTensor tensor(values);
    if (golden.size() != tensor.size() * sizeof tensor[0]) {
        throw Refusal(Exit::bad_bundle, "golden.safetensors", "has outputs of another size.");
    }
    std::memcpy(tensor.data(), golden.data(), golden.size());
    return tensor;
}

// Returns how far an output may be from the golden one. The tolerance is a share of the largest
// output of all samples: one whose outputs are all small is no more exact than the others.
double allowed_error(const GoldenFile &golden)
{
    double largest = 0.0;
    const std::size_t values = golden.count() * scan_build::output_values;
    for (const auto value : golden_tensor(golden.outputs(), values)) {
        largest = std::max(largest, std::abs(real_value(value)));
    }
    return scan_build::output_tolerance_ratio * largest;
}

Difference difference(const OutputTensor &output, const Bytes &golden, double allowed)
{
    const OutputTensor wanted = golden_tensor(golden, output.size());
    double largest = 0.0;
    bool comparable = true;
    for (std::size_t i = 0; i < output.size(); ++i) {
        const double apart = std::abs(real_value(output[i]) - real_value(wanted[i]));
        comparable = comparable && std::isfinite(apart);
        largest = std::max(largest, apart);
    }
    const bool equal = std::memcmp(output.data(), wanted.data(), golden.size()) == 0;
    const bool near = allowed > 0.0 && largest <= allowed;
    return {largest, comparable && (equal || near)};
}

// What came of one golden sample.
struct Checked {
    bool input_equal = false;
    OutputTensor output = OutputTensor(scan_build::output_values);
    Difference difference = {};
    std::optional<std::uint32_t> decision;
    std::uint32_t wanted_decision = 0;
    bool passed = false;
};

void check(Program &program, const GoldenSample &sample, double allowed, Checked &checked)
{
    const InputTensor input = program.prepare(sample.frame);
    const OutputTensor output = program.infer(input);
    const Answer answer = program.answer(output, sample.frame);
    checked.input_equal = sample.input.size() == input.size() * sizeof input[0]
        && std::memcmp(input.data(), sample.input.data(), sample.input.size()) == 0;
    std::copy(output.begin(), output.end(), checked.output.begin());
    checked.difference = difference(output, sample.output, allowed);
    checked.decision = decision_of(answer);
    checked.wanted_decision = sample.decision;
    checked.passed = checked.input_equal && checked.difference.within
        && checked.decision.value_or(sample.decision) == sample.decision;
}

void print_golden(std::size_t index, const Checked &checked)
{
    JsonLine line("golden");
    line.add("index", std::uint64_t{index})
        .add("input_equal", checked.input_equal)
        .add("output", base64(bytes_of(checked.output)));
    if (checked.decision) {
        line.add("decision", std::uint64_t{*checked.decision});
    } else {
        line.add_null("decision");
    }
    line.add("wanted_decision", std::uint64_t{checked.wanted_decision})
        .add("max_abs_error", checked.difference.largest)
        .add("within", checked.difference.within)
        .print();
}

Exit selftest(Program &program, const GoldenFile &golden)
{
    // Made and printed outside of the loop: each round then takes and frees the same memory,
    // and counts of instructions repeat.
    std::vector<Checked> results(golden.count());
    const double allowed = allowed_error(golden);
    std::uint64_t failed = 0;
    for (std::size_t i = 0; i < golden.count(); ++i) {
        check(program, golden.sample(i), allowed, results[i]);
        failed += results[i].passed ? 0 : 1;
    }
    for (std::size_t i = 0; i < golden.count(); ++i) {
        print_golden(i, results[i]);
    }
    JsonLine("selftest")
        .add("passed", failed == 0)
        .add("samples", std::uint64_t{golden.count()})
        .add("failed", failed)
        .print();
    return failed == 0 ? Exit::success : Exit::differs;
}

// A device that answers otherwise than the bundle promises must not answer at all.
void require_first_golden(Program &program, const GoldenFile &golden)
{
    Checked checked;
    check(program, golden.sample(0), allowed_error(golden), checked);
    if (!checked.passed) {
        throw Refusal(
            Exit::differs, "",
            "this device does not answer the first golden sample as the bundle promises. "
            "`scan --selftest` says more.");
    }
}

void answer_frames(Program &program, const std::string &path, const Arguments &arguments)
{
    const std::unique_ptr<FrameSource> source = open_source(path, arguments.raw);
    for (std::size_t i = 0; i < source->count(); ++i) {
        const Frame frame = source->frame(i);
        JsonLine line("result");
        line.add("source", path).add("frame", std::uint64_t{i});
        try {
            const OutputTensor output = program.infer(program.prepare(frame));
            const Answer answer = program.answer(output, frame);
            line.add_keys(keys_of(answer)).add("output_sha256", digest_of(output));
        } catch (const Refusal &refusal) {
            throw Refusal(refusal.exit(), path + ": frame " + std::to_string(i), refusal.message());
        }
        line.print();
    }
}

void bench(Program &program, const GoldenFile &golden, unsigned repeats)
{
    const GoldenSample sample = golden.sample(0);
    std::vector<std::uint64_t> prepare_ns(repeats);
    std::vector<std::uint64_t> infer_ns(repeats);
    std::vector<std::uint64_t> answer_ns(repeats);
    for (unsigned i = 0; i < repeats; ++i) {
        const std::uint64_t begun = clock_ns();
        const InputTensor input = program.prepare(sample.frame);
        const std::uint64_t prepared = clock_ns();
        const OutputTensor output = program.infer(input);
        const std::uint64_t inferred = clock_ns();
        program.answer(output, sample.frame);
        prepare_ns[i] = prepared - begun;
        infer_ns[i] = inferred - prepared;
        answer_ns[i] = clock_ns() - inferred;
    }
    JsonLine("bench")
        .add("repeats", std::uint64_t{repeats})
        .add("prepare_ns", prepare_ns)
        .add("infer_ns", infer_ns)
        .add("answer_ns", answer_ns)
        .print();
}

// Tells what each operator takes of the last of N inferences: the first ones set things up.
// In a model of its own, so that profiling is no part of what the bench measures.
void profile(const Bundle &bundle, const GoldenFile &golden, const Arguments &arguments)
{
    ModelContract contract;
    const InputTensor input = contract.prepare(golden.sample(0).frame);
    Runtime runtime(bundle.model, arguments.threads, Profiling::on);
    for (unsigned i = 0; i < arguments.repeats; ++i) {
        runtime.run(input);
    }
    std::vector<std::string> json;
    for (const OperatorTime &taken : runtime.operators()) {
        json.push_back(
            JsonLine::part().add("name", taken.name).add("clock_ns", taken.clock_ns).object());
    }
    JsonLine line("operators");
    line.add("source", Runtime::name()).add("unit", "clock_ns");
    if (json.empty()) {
        line.add_null("operators").add("reason", "the runtime told of no operator").print();
    } else {
        line.add_raw("operators", json_array(json)).print();
    }
}

void print_program(const Bundle &bundle, const Arguments &arguments)
{
    utsname machine = {};
    uname(&machine);
    JsonLine("program")
        .add("app", SCAN_VERSION)
        .add("runtime", Runtime::name())
        .add("architecture", machine.machine)
        .add("target", bundle.target)
        .add("model_sha256", bundle.model_sha256)
        .add("contract_sha256", bundle.contract_sha256)
        .add("threads", std::uint64_t{arguments.threads})
        .print();
}

void print_memory()
{
    rusage used = {};
    getrusage(RUSAGE_SELF, &used);
    // Linux counts it in KiB.
    JsonLine("memory")
        .add("peak_rss_bytes", static_cast<std::uint64_t>(used.ru_maxrss) * 1024)
        .print();
}

Exit run(const Arguments &arguments)
{
    Marks marks(arguments.marks);
    marks.pass(Mark::started);
    const Bundle bundle = open_bundle(arguments.bundle);
    const GoldenFile golden(bundle.golden);
    Program program(bundle, arguments, marks);
    marks.pass(Mark::ready);
    print_program(bundle, arguments);
    Exit exit = Exit::success;
    switch (arguments.task) {
    case Task::selftest:
        exit = selftest(program, golden);
        break;
    case Task::bench:
        bench(program, golden, arguments.repeats);
        break;
    case Task::frames:
        require_first_golden(program, golden);
        for (const std::string &path : arguments.files) {
            answer_frames(program, path, arguments);
        }
        break;
    }
    marks.pass(Mark::done);
    marks.print();
    print_memory();
    if (arguments.operators) {
        profile(bundle, golden, arguments);
    }
    return exit;
}

Exit report(Exit exit, const std::string &message)
{
    std::fprintf(stderr, "scan: %s\n", message.c_str());
    // Where standard output is broken, too, the exit code has to say it.
    try {
        JsonLine("error")
            .add("code", static_cast<std::uint64_t>(exit))
            .add("message", message)
            .print();
    } catch (const std::exception &) {
        return exit;
    }
    return exit;
}

Exit main(int count, const char *const *values)
{
    if (count == 2 && std::strcmp(values[1], "--help") == 0) {
        std::fputs(usage, stderr);
        return Exit::success;
    }
    try {
        return run(read_arguments(count, values));
    } catch (const Refusal &refusal) {
        return report(refusal.exit(), refusal.message());
    } catch (const std::bad_alloc &) {
        return report(Exit::other, "there is not enough memory.");
    } catch (const std::exception &error) {
        return report(Exit::other, error.what());
    }
}

} // namespace
} // namespace scan

int main(int count, char **values)
{
    return static_cast<int>(scan::main(count, values));
}
