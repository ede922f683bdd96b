// Runs `.tflite` programs with LiteRT and XNNPACK's kernels.
#include "runtime.hpp"

#include "litert_c_api.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>
#include <type_traits>

static_assert(
    std::string_view(SCAN_RUNTIME_VERSION) == LITERT_API_VERSION,
    "litert_c_api.h declares the functions of another version");
// Seen by experiment in 2.3.0: the library writes structures of these sizes.
static_assert(sizeof(LiteRtRankedTensorType) == 72, "as LiteRT has it");
static_assert(sizeof(void *) != 8 || sizeof(ProfiledEventData) == 104, "as LiteRT has it");

namespace scan {
namespace {

// How LiteRT calls the options of its CPU kernels, and those of itself.
constexpr const char *cpu_options = "xnnpack";
constexpr const char *runtime_options = "runtime_options_string";

Refusal refusal(const std::string &problem)
{
    return Refusal(Exit::model_refused, "model", problem + ".");
}

void require_ok(LiteRtStatus status, const char *what)
{
    if (status != kLiteRtStatusOk) {
        throw refusal(
            std::string("LiteRT cannot ") + what + " (status " + std::to_string(status) + ")");
    }
}

// Owns an object of LiteRT's; `destroy` is the function that ends it.
template <typename Handle, void (*destroy)(Handle)> class Owned {
public:
    Owned() = default;
    ~Owned()
    {
        if (handle_ != nullptr) {
            destroy(handle_);
        }
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;

    Handle get() const { return handle_; }
    Handle *made() { return &handle_; }
    void release() { handle_ = nullptr; }

private:
    Handle handle_ = nullptr;
};

template <typename Number> constexpr std::int32_t element_type()
{
    static_assert(std::is_same_v<Number, float> || std::is_same_v<Number, std::int8_t>);
    return std::is_same_v<Number, float> ? kLiteRtElementTypeFloat32 : kLiteRtElementTypeInt8;
}

// Whether a tensor holds `wanted` values of one type.
template <typename Number> bool holds(const LiteRtRankedTensorType &type, std::size_t wanted)
{
    if (type.element_type != element_type<Number>() || type.layout.rank > LITERT_TENSOR_MAX_RANK) {
        return false;
    }
    std::uint64_t values = 1;
    for (unsigned axis = 0; axis < type.layout.rank; ++axis) {
        const std::int32_t side = type.layout.dimensions[axis];
        if (side < 1 || values > UINT32_MAX / static_cast<std::uint32_t>(side)) {
            return false;
        }
        values *= static_cast<std::uint32_t>(side);
    }
    return values == wanted;
}

void add_options(LiteRtOptions options, const char *identifier, const std::string &settings)
{
    char *payload = strdup(settings.c_str());
    if (payload == nullptr) {
        throw std::bad_alloc();
    }
    Owned<LiteRtOpaqueOptions, LiteRtDestroyOpaqueOptions> opaque;
    if (LiteRtCreateOpaqueOptions(identifier, payload, std::free, opaque.made()) != kLiteRtStatusOk) {
        std::free(payload);
        throw refusal("LiteRT does not take options");
    }
    require_ok(LiteRtAddOpaqueOptions(options, opaque.get()), "take options");
    opaque.release();
}

} // namespace

class Runtime::Loaded {
public:
    Loaded(const Bytes &model, unsigned threads, Profiling profiling)
    {
        require_ok(LiteRtCreateEnvironment(0, nullptr, environment_.made()), "be set up");
        require_ok(
            LiteRtCreateModelFromBuffer(
                environment_.get(), model.data(), model.size(), model_.made()),
            "read it");
        const auto [input, output] = tensor_types();
        Owned<LiteRtOptions, LiteRtDestroyOptions> options;
        require_ok(LiteRtCreateOptions(options.made()), "take options");
        require_ok(
            LiteRtSetOptionsHardwareAccelerators(options.get(), kLiteRtHwAcceleratorCpu),
            "run on the CPU");
        add_options(options.get(), cpu_options, "num_threads = " + std::to_string(threads) + "\n");
        if (profiling == Profiling::on) {
            add_options(options.get(), runtime_options, "enable_profiling = true\n");
        }
        require_ok(
            LiteRtCreateCompiledModel(
                environment_.get(), model_.get(), options.get(), compiled_.made()),
            "load it");
        create_buffers(input, output);
        if (profiling == Profiling::on) {
            require_ok(LiteRtCompiledModelGetProfiler(compiled_.get(), &profiler_), "profile");
        }
    }

    OutputTensor run(const InputTensor &input)
    {
        void *memory = nullptr;
        const int writing = kLiteRtTensorBufferLockModeWrite;
        require_ok(LiteRtLockTensorBuffer(input_.get(), &memory, writing), "take an input");
        std::memcpy(memory, input.data(), input.size() * sizeof(scan_build::InputNumber));
        require_ok(LiteRtUnlockTensorBuffer(input_.get()), "take an input");
        if (profiler_ != nullptr) {
            require_ok(LiteRtResetProfiler(profiler_), "profile");
            require_ok(LiteRtStartProfiler(profiler_), "profile");
        }
        LiteRtTensorBuffer inputs[] = {input_.get()};
        LiteRtTensorBuffer outputs[] = {output_.get()};
        require_ok(LiteRtRunCompiledModel(compiled_.get(), 0, 1, inputs, 1, outputs), "run it");
        if (profiler_ != nullptr) {
            require_ok(LiteRtStopProfiler(profiler_), "profile");
        }
        OutputTensor copied(scan_build::output_values);
        const int reading = kLiteRtTensorBufferLockModeRead;
        require_ok(LiteRtLockTensorBuffer(output_.get(), &memory, reading), "give an output");
        std::memcpy(copied.data(), memory, copied.size() * sizeof(scan_build::OutputNumber));
        require_ok(LiteRtUnlockTensorBuffer(output_.get()), "give an output");
        return copied;
    }

    std::vector<OperatorTime> operators() const
    {
        std::vector<OperatorTime> operators;
        int count = 0;
        if (profiler_ == nullptr) {
            return operators;
        }
        require_ok(LiteRtGetNumProfilerEvents(profiler_, &count), "profile");
        if (count <= 0) {
            return operators;
        }
        std::vector<ProfiledEventData> events(static_cast<std::size_t>(count));
        require_ok(LiteRtGetProfilerEvents(profiler_, count, events.data()), "profile");
        // Other events enclose operators, and would count them twice.
        constexpr int wanted = kLiteRtOperatorInvoke | kLiteRtDelegateProfiledOperatorInvoke;
        std::map<std::string, unsigned> seen;
        for (const ProfiledEventData &event : events) {
            if ((event.event_type & wanted) != 0) {
                const std::string name = event.tag == nullptr ? "" : event.tag;
                const std::string number = " #" + std::to_string(++seen[name]);
                operators.push_back({name + number, event.elapsed_time_us * 1000});
            }
        }
        return operators;
    }

private:
    struct Types {
        LiteRtRankedTensorType input;
        LiteRtRankedTensorType output;
    };

    Types tensor_types() const
    {
        LiteRtParamIndex inputs = 0;
        LiteRtParamIndex outputs = 0;
        LiteRtParamIndex signatures = 0;
        LiteRtSignature signature = nullptr;
        require_ok(LiteRtGetNumModelSignatures(model_.get(), &signatures), "describe it");
        if (signatures == 0) {
            throw refusal("it has no signature");
        }
        require_ok(LiteRtGetModelSignature(model_.get(), 0, &signature), "describe it");
        require_ok(LiteRtGetNumSignatureInputs(signature, &inputs), "describe it");
        require_ok(LiteRtGetNumSignatureOutputs(signature, &outputs), "describe it");
        if (inputs != 1 || outputs != 1) {
            throw refusal("it does not take one input and give one output");
        }
        LiteRtTensor input = nullptr;
        LiteRtTensor output = nullptr;
        Types types = {};
        require_ok(LiteRtGetSignatureInputTensorByIndex(signature, 0, &input), "describe it");
        require_ok(LiteRtGetSignatureOutputTensorByIndex(signature, 0, &output), "describe it");
        require_ok(LiteRtGetRankedTensorType(input, &types.input), "describe its input");
        require_ok(LiteRtGetRankedTensorType(output, &types.output), "describe its output");
        if (!holds<scan_build::InputNumber>(types.input, scan_build::input_values)) {
            throw refusal("its input is not the contract's");
        }
        if (!holds<scan_build::OutputNumber>(types.output, scan_build::output_values)) {
            throw refusal("its output is not the contract's");
        }
        return types;
    }

    void create_buffers(const LiteRtRankedTensorType &input, const LiteRtRankedTensorType &output)
    {
        LiteRtTensorBufferRequirements given = nullptr;
        LiteRtTensorBufferRequirements taken = nullptr;
        require_ok(
            LiteRtGetCompiledModelInputBufferRequirements(compiled_.get(), 0, 0, &given),
            "describe its input");
        require_ok(
            LiteRtGetCompiledModelOutputBufferRequirements(compiled_.get(), 0, 0, &taken),
            "describe its output");
        require_ok(
            LiteRtCreateManagedTensorBufferFromRequirements(
                environment_.get(), &input, given, input_.made()),
            "make room for an input");
        require_ok(
            LiteRtCreateManagedTensorBufferFromRequirements(
                environment_.get(), &output, taken, output_.made()),
            "make room for an output");
        // Copying relies on these.
        std::size_t input_bytes = 0;
        std::size_t output_bytes = 0;
        require_ok(LiteRtGetTensorBufferSize(input_.get(), &input_bytes), "describe its input");
        require_ok(LiteRtGetTensorBufferSize(output_.get(), &output_bytes), "describe its output");
        if (input_bytes < scan_build::input_values * sizeof(scan_build::InputNumber)
            || output_bytes < scan_build::output_values * sizeof(scan_build::OutputNumber)) {
            throw refusal("LiteRT makes too little room for it");
        }
    }

    // Ended in the opposite order, so that nothing outlives what it rests on.
    Owned<LiteRtEnvironment, LiteRtDestroyEnvironment> environment_;
    Owned<LiteRtModel, LiteRtDestroyModel> model_;
    Owned<LiteRtCompiledModel, LiteRtDestroyCompiledModel> compiled_;
    Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer> input_;
    Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer> output_;
    LiteRtProfiler profiler_ = nullptr;
};

Runtime::Runtime(const Bytes &model, unsigned threads, Profiling profiling)
    : loaded_(std::make_unique<Loaded>(model, threads, profiling))
{
}

Runtime::~Runtime() = default;

std::string Runtime::name() { return std::string("LiteRT ") + LITERT_API_VERSION; }

OutputTensor Runtime::run(const InputTensor &input) { return loaded_->run(input); }

std::vector<OperatorTime> Runtime::operators() const { return loaded_->operators(); }

} // namespace scan
