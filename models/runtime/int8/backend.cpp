#include "models/runtime/int8/backend.h"

#include <ATen/Context.h>

#include <algorithm>
#include <mutex>

#include "models/runtime/int8/module_int8.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

Int8Backend backend_of(at::QEngine engine) {
  switch (engine) {
    case at::QEngine::FBGEMM: return Int8Backend::fbgemm;
    case at::QEngine::QNNPACK: return Int8Backend::qnnpack;
    case at::QEngine::ONEDNN: return Int8Backend::onednn;
    case at::QEngine::X86: return Int8Backend::x86;
    default: return Int8Backend::none;
  }
}

at::QEngine engine_of(Int8Backend backend) {
  switch (backend) {
    case Int8Backend::fbgemm: return at::QEngine::FBGEMM;
    case Int8Backend::qnnpack: return at::QEngine::QNNPACK;
    case Int8Backend::onednn: return at::QEngine::ONEDNN;
    case Int8Backend::x86: return at::QEngine::X86;
    case Int8Backend::none: break;
  }
  return at::QEngine::NoQEngine;
}

std::mutex& backend_mutex() {
  static std::mutex mutex;
  return mutex;
}

}  // namespace

std::vector<Int8Backend> int8_backends() {
  const std::lock_guard lock(backend_mutex());  // A guard may have changed what is LibTorch's own choice.
  std::vector<Int8Backend> backends;
  for (const at::QEngine engine : at::globalContext().supportedQEngines())
    if (const Int8Backend backend = backend_of(engine);
        backend != Int8Backend::none && std::ranges::find(backends, backend) == backends.end())
      backends.push_back(backend);
  const Int8Backend own = backend_of(at::globalContext().qEngine());
  std::ranges::stable_partition(backends, [&](Int8Backend backend) { return backend == own; });
  return backends;
}

ActivationBits activation_bits_of_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  const bool has_vnni = __builtin_cpu_supports("avx512vnni") || __builtin_cpu_supports("avxvnni");
  return has_vnni ? ActivationBits::eight : ActivationBits::seven;
#else
  return ActivationBits::eight;  // ARM's int8 products are added in 32 bits.
#endif
}

std::vector<Engine> candidate_engines() {
  std::vector<Engine> engines = {{EngineKind::fp32_script}, {EngineKind::fp32_optimized}};
  const ActivationBits bits = activation_bits_of_cpu();
  for (const Int8Backend backend : int8_backends())
    for (const EngineKind kind : {EngineKind::int8_static, EngineKind::int8_dynamic})
      engines.push_back({kind, backend, bits});
  return engines;
}

namespace int8 {

BackendGuard::BackendGuard(Int8Backend backend) {
  RIVULET_ASSERT(backend != Int8Backend::none);
  backend_mutex().lock();
  before_ = at::globalContext().qEngine();
  try {
    at::globalContext().setQEngine(engine_of(backend));
  } catch (...) {
    backend_mutex().unlock();
    throw;
  }
}

BackendGuard::~BackendGuard() {
  at::globalContext().setQEngine(before_);
  backend_mutex().unlock();
}

}  // namespace int8
}  // namespace rivulet
