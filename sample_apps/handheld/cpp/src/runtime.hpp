// What runs the model: one class, and one source file for each runtime that can be behind it.
#ifndef SCAN_RUNTIME_HPP
#define SCAN_RUNTIME_HPP

#include "byte_file.hpp"
#include "model_contract.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace scan {

// How long one operator took, by this machine's clock.
struct OperatorTime {
    std::string name;
    std::uint64_t clock_ns;
};

enum class Profiling { off, on };

// A loaded model. It is refused, as Exit::model_refused, unless it takes one input and gives
// one output of the contract's sizes and types.
class Runtime {
public:
    // `model` must outlive the object: runtimes use weights where they are.
    Runtime(const Bytes &model, unsigned threads, Profiling profiling);
    ~Runtime();
    Runtime(const Runtime &) = delete;
    Runtime &operator=(const Runtime &) = delete;

    // Such as `LiteRT 2.3.0`.
    static std::string name();

    OutputTensor run(const InputTensor &input);

    // The operators of the last run, in order; empty unless profiling is on.
    std::vector<OperatorTime> operators() const;

private:
    class Loaded;
    std::unique_ptr<Loaded> loaded_;
};

} // namespace scan

#endif
