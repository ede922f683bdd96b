// Runs `.pte` programs with ExecuTorch and XNNPACK's kernels.
#include "runtime.hpp"

#include "marks.hpp"

#include <cstdio>
#include <cstring>
#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/module/module.h>
#include <executorch/runtime/core/event_tracer.h>
#include <executorch/runtime/core/exec_aten/util/dim_order_util.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>
#include <type_traits>

// Exported by libexecutorch_threadpool.so, whose header the packages do not carry.
namespace executorch::extension::threadpool {
class ThreadPool {
public:
    std::size_t get_thread_count() const;
    bool _unsafe_reset_threadpool(std::uint32_t threads);
};
ThreadPool *get_threadpool();
} // namespace executorch::extension::threadpool

namespace scan {
namespace {

namespace runtime = executorch::runtime;
using executorch::aten::ScalarType;

constexpr const char *method = "forward";

Refusal refusal(const std::string &problem, runtime::Error error = runtime::Error::Ok)
{
    const std::string number
        = error == runtime::Error::Ok ? "" : " (" + std::string(runtime::to_string(error)) + ")";
    return Refusal(Exit::model_refused, "model", problem + number + ".");
}

template <typename Number> constexpr ScalarType scalar_type()
{
    static_assert(std::is_same_v<Number, float> || std::is_same_v<Number, std::int8_t>);
    return std::is_same_v<Number, float> ? ScalarType::Float : ScalarType::Char;
}

// Collects what operators take. XNNPACK tells its own after each run, through
// `log_profiling_delegate`; operators outside of it come as pairs of calls.
class Collector final : public runtime::EventTracer {
public:
    std::vector<OperatorTime> operators;

    runtime::EventTracerEntry start_profiling(
        const char *name, runtime::ChainID, runtime::DebugHandle) override
    {
        started_.push_back({name, clock_ns()});
        runtime::EventTracerEntry entry = {};
        entry.event_id = static_cast<std::int64_t>(started_.size()) - 1;
        return entry;
    }

    void end_profiling(runtime::EventTracerEntry entry) override
    {
        const std::uint64_t now = clock_ns();
        const OperatorTime &begun = started_.at(static_cast<std::size_t>(entry.event_id));
        // What encloses operators would count them twice: loading, the method, the delegate.
        if (begun.name.rfind("native_call_", 0) == 0) {
            operators.push_back({begun.name.substr(sizeof "native_call_" - 1), now - begun.clock_ns});
        }
    }

    void log_profiling_delegate(
        const char *name, runtime::DelegateDebugIntId, et_timestamp_t start, et_timestamp_t end,
        const void *, size_t) override
    {
        const et_tick_ratio_t ratio = runtime::pal_ticks_to_ns_multiplier();
        const std::uint64_t ticks = end - start;
        operators.push_back(
            {name == nullptr ? "" : name, ticks * ratio.numerator / ratio.denominator});
    }

    void clear()
    {
        started_.clear();
        operators.clear();
    }

    // What else ExecuTorch could tell is not asked for.
    void create_event_block(const char *) override {}
    runtime::EventTracerEntry start_profiling_delegate(
        const char *, runtime::DelegateDebugIntId) override
    {
        return {};
    }
    void end_profiling_delegate(runtime::EventTracerEntry, const void *, size_t) override {}
    void track_allocation(runtime::AllocatorID, size_t) override {}
    runtime::AllocatorID track_allocator(const char *) override { return 0; }
    runtime::Result<bool> log_evalue(const runtime::EValue &, runtime::LoggedEValueType) override
    {
        return false;
    }
    runtime::Result<bool> log_intermediate_output_delegate(
        const char *, runtime::DelegateDebugIntId, const executorch::aten::Tensor &) override
    {
        return false;
    }
    runtime::Result<bool> log_intermediate_output_delegate(
        const char *, runtime::DelegateDebugIntId,
        const runtime::ArrayRef<executorch::aten::Tensor>) override
    {
        return false;
    }
    runtime::Result<bool> log_intermediate_output_delegate(
        const char *, runtime::DelegateDebugIntId, const int &) override
    {
        return false;
    }
    runtime::Result<bool> log_intermediate_output_delegate(
        const char *, runtime::DelegateDebugIntId, const bool &) override
    {
        return false;
    }
    runtime::Result<bool> log_intermediate_output_delegate(
        const char *, runtime::DelegateDebugIntId, const double &) override
    {
        return false;
    }
    void set_delegation_intermediate_output_filter(runtime::EventTracerFilterBase *) override {}

private:
    std::vector<OperatorTime> started_;
};

// ExecuTorch's own way prints the time as well, whose digits take more instructions in one run
// than in the next: what start-up takes would not repeat.
void log_without_time(
    et_timestamp_t, et_pal_log_level_t level, const char *file, const char *, size_t line,
    const char *message, size_t)
{
    std::fprintf(stderr, "%c %s:%zu: %s\n", static_cast<char>(level), file, line, message);
}

void use_threads(unsigned threads)
{
    auto *pool = executorch::extension::threadpool::get_threadpool();
    if (pool == nullptr) {
        return; // without a pool there is one thread
    }
    if (pool->get_thread_count() != threads && !pool->_unsafe_reset_threadpool(threads)) {
        throw refusal("ExecuTorch cannot run on " + std::to_string(threads) + " threads");
    }
}

} // namespace

class Runtime::Loaded {
public:
    Loaded(const Bytes &model, Profiling profiling)
        : module_(
            std::make_unique<executorch::extension::BufferDataLoader>(model.data(), model.size()),
            nullptr, nullptr, profiling == Profiling::on ? std::make_unique<Collector>() : nullptr)
    {
        const runtime::Error error = module_.load_method(method);
        if (error != runtime::Error::Ok) {
            throw refusal("ExecuTorch cannot load it", error);
        }
        const auto about = module_.method_meta(method);
        if (!about.ok() || about->num_inputs() != 1 || about->num_outputs() != 1) {
            throw refusal("it does not take one input and give one output");
        }
        const auto input = about->input_tensor_meta(0);
        if (!input.ok() || input->scalar_type() != scalar_type<scan_build::InputNumber>()
            || input->nbytes() != scan_build::input_values * sizeof(scan_build::InputNumber)) {
            throw refusal("its input is not the contract's");
        }
        sizes_.assign(input->sizes().begin(), input->sizes().end());
        order_.assign(input->dim_order().begin(), input->dim_order().end());
        strides_.resize(sizes_.size());
        const runtime::Error strided = runtime::dim_order_to_stride(
            sizes_.data(), order_.data(), sizes_.size(), strides_.data());
        if (strided != runtime::Error::Ok) {
            throw refusal("its input has an impossible layout", strided);
        }
    }

    OutputTensor run(const InputTensor &input)
    {
        if (collector() != nullptr) {
            collector()->clear();
        }
        // ExecuTorch reads inputs and writes none, but has no type to say so.
        auto *values = const_cast<scan_build::InputNumber *>(input.data());
        executorch::aten::TensorImpl impl(
            scalar_type<scan_build::InputNumber>(), static_cast<ssize_t>(sizes_.size()),
            sizes_.data(), values, order_.data(), strides_.data());
        const auto outputs = module_.forward(runtime::EValue(executorch::aten::Tensor(&impl)));
        if (!outputs.ok()) {
            throw refusal("ExecuTorch cannot run it", outputs.error());
        }
        const auto &output = outputs->at(0);
        OutputTensor copied(scan_build::output_values);
        const std::size_t bytes = copied.size() * sizeof(scan_build::OutputNumber);
        if (!output.isTensor() || output.toTensor().nbytes() != bytes
            || output.toTensor().scalar_type() != scalar_type<scan_build::OutputNumber>()) {
            throw refusal("its output is not the contract's");
        }
        std::memcpy(copied.data(), output.toTensor().const_data_ptr(), bytes);
        return copied;
    }

    Collector *collector() const { return static_cast<Collector *>(module_.event_tracer()); }

private:
    executorch::extension::Module module_;
    std::vector<executorch::aten::SizesType> sizes_;
    std::vector<executorch::aten::DimOrderType> order_;
    std::vector<executorch::aten::StridesType> strides_;
};

Runtime::Runtime(const Bytes &model, unsigned threads, Profiling profiling)
{
    runtime::register_pal(
        runtime::PalImpl::create(log_without_time, "runtime_executorch.cpp"));
    runtime::runtime_init();
    use_threads(threads);
    loaded_ = std::make_unique<Loaded>(model, profiling);
}

Runtime::~Runtime() = default;

std::string Runtime::name() { return std::string("ExecuTorch ") + SCAN_RUNTIME_VERSION; }

OutputTensor Runtime::run(const InputTensor &input) { return loaded_->run(input); }

std::vector<OperatorTime> Runtime::operators() const
{
    const Collector *collector = loaded_->collector();
    return collector == nullptr ? std::vector<OperatorTime>() : collector->operators;
}

} // namespace scan
