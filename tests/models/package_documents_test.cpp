#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>

#include "models/package/release.h"
#include "models/package/version.h"
#include "protocol/rng.h"
#include "protocol/sha256.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

template <typename Id>
Id id_of(int fill) {
  Id id;
  id.bytes.fill(static_cast<std::byte>(fill));
  return id;
}

Release small_release() {
  Release release;
  release.fleet = id_of<FleetId>(1);
  release.name = "digits";
  release.architecture = {"mlp", {3}, {4}, 2};
  release.layout.tensors = {{"fc1.weight", {3, 4}, TensorKind::parameter},
                            {"fc1.bias", {3}, TensorKind::parameter},
                            {"norm.mean", {3}, TensorKind::statistic},
                            {"temperature", {}, TensorKind::parameter}};
  release.classes = {"off", "on"};
  release.preprocessing = {{0.5F, 1.0F, 1.5F, 2.0F}, {16.0F}};
  release.snapshot = SnapshotForm::fp32;
  release.initial_weights = id_of<ContentId>(2);
  release.initial_weights_hash = id_of<Digest>(3);
  release.recipes = {"fp32", "int8"};
  release.known_inputs = {0, 1, 2, 3, 4, 5, 6, 7};
  release.limits = {12.5, std::chrono::seconds(60), *parse_rfc3339("2027-11-22T10:00:00Z")};
  release.created = *parse_rfc3339("2026-11-22T10:00:00.250Z");
  release.epoch = 4;
  return release;
}

VersionManifest small_version() {
  VersionManifest manifest;
  manifest.fleet = id_of<FleetId>(1);
  manifest.manifest_version = 12;
  manifest.version = 9;
  manifest.release = id_of<ReleaseId>(4);
  manifest.release_content = id_of<ContentId>(5);
  manifest.parent = 7;
  manifest.round = 31;
  manifest.created = *parse_rfc3339("2026-11-22T10:00:00.250Z");
  manifest.form = SnapshotForm::int8;
  manifest.snapshot = id_of<ContentId>(6);
  manifest.snapshot_bytes = 1234;
  manifest.weights_hash = id_of<Digest>(7);
  const Int8Kernels int8{{{{0, 6}, {-1.5F, 2.25F}}, {"head.norm"}}, {0.27F, 0.73F}, 0.125F};
  manifest.variants = {
      {"fp32", id_of<ContentId>(8), 400, {0.25F, 0.75F}, 1e-4F, 0.9375, std::nullopt, 4096, 12.5, true},
      {"int8", id_of<ContentId>(9), 120, {0.26F, 0.74F}, 0.05F, std::nullopt, int8, 2048, 3.25, false}};
  manifest.fallback = VersionManifest::Fallback{7, id_of<Digest>(10)};
  manifest.epoch = 4;
  manifest.audit_head = id_of<Digest>(11);
  manifest.reference = "Some processor";
  return manifest;
}

CandidateManifest small_candidate() {
  CandidateManifest manifest;
  manifest.fleet = id_of<FleetId>(1);
  manifest.round = 31;
  manifest.release = id_of<ReleaseId>(4);
  manifest.release_content = id_of<ContentId>(5);
  manifest.parent = 7;
  manifest.parent_weights_hash = id_of<Digest>(12);
  manifest.form = SnapshotForm::fp32;
  manifest.snapshot = id_of<ContentId>(6);
  manifest.snapshot_bytes = 1234;
  manifest.weights_hash = id_of<Digest>(7);
  return manifest;
}

/// The error of decoding `release` after `change`; its encoder takes what its decoder must not.
template <typename Change>
Error refusal(Change change) {
  Release release = small_release();
  change(release);
  const auto decoded = decode_release(encode(release));
  REQUIRE_FALSE(decoded.has_value());
  return decoded.error();
}

}  // namespace

TEST_CASE("a release comes back as it was signed", "[models][release]") {
  const Release release = small_release();
  const Bytes payload = encode(release);
  CHECK(decode_release(payload) == release);
  CHECK(encode(release) == payload);
  CHECK(release_id(payload).hex() == sha256(payload).hex());
}

TEST_CASE("a release of the first format still reads as what it said", "[models][release]") {
  // Written before an architecture had channels, kernel, pool, width, groups and resolution.
  std::ifstream file("tests/models/fixtures/release_1.bin", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  REQUIRE(text.size() == 616);
  CHECK(decode_release(bytes_of(text)) == small_release());
}

TEST_CASE("a release names the version that it was made of, and is another one by that",
          "[models][release]") {
  const Bytes plain = encode(small_release());
  CHECK(decode_release(plain)->teacher == std::nullopt);
  Release release = small_release();
  release.teacher = Teacher{id_of<ReleaseId>(7), 12};
  const Bytes payload = encode(release);
  CHECK(decode_release(payload) == release);
  CHECK(release_id(payload) != release_id(plain));
  CHECK(refusal([](Release& r) { r.teacher = Teacher{id_of<ReleaseId>(7), 0}; }).detail.find("version") !=
        std::string::npos);
}

TEST_CASE("a release says how its versions are pruned, and an old one that they are not",
          "[models][release]") {
  std::ifstream file("tests/models/fixtures/release_1.bin", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  CHECK(decode_release(bytes_of(text))->pruning == PruningPlan{0.0, 0, 20});
  Release release = small_release();
  CHECK(decode_release(encode(release))->pruning == PruningPlan{0.0, 0, 20});
  release.snapshot = SnapshotForm::sparse_int8;
  release.pruning = {0.6, 3, 12};
  CHECK(decode_release(encode(release)).value() == release);
  Release other = release;
  other.pruning.sparsity = 0.5;
  CHECK(release_id(encode(other)) != release_id(encode(release)));
}

TEST_CASE("a release names the loss of a regression, and an old one the squared error", "[models][release]") {
  std::ifstream file("tests/models/fixtures/release_1.bin", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  CHECK(decode_release(bytes_of(text))->loss == RegressionLoss::squared);
  Release release = small_release();
  release.task = TaskKind::regression;
  release.classes.clear();
  for (const RegressionLoss loss : {RegressionLoss::huber, RegressionLoss::absolute}) {
    release.loss = loss;
    CHECK(decode_release(encode(release)).value() == release);
  }
  CHECK(refusal([](Release& r) { r.loss = RegressionLoss::huber; }).detail ==
        "release: only a regression has a choice of losses");
}

TEST_CASE("losses of a regression's error are those of the papers", "[models][release]") {
  CHECK(loss_of(RegressionLoss::squared, -3) == 9);
  CHECK(loss_of(RegressionLoss::absolute, -3) == 3);
  CHECK(loss_of(RegressionLoss::huber, 0.5) == 0.125);
  CHECK(loss_of(RegressionLoss::huber, -1) == 0.5);
  CHECK(loss_of(RegressionLoss::huber, -3) == 2.5);
}

TEST_CASE("a release keeps every field of its architecture", "[models][release]") {
  Release release = small_release();
  release.architecture.channels = {8, 16};
  release.architecture.kernel = 5;
  release.architecture.pool = 2;
  release.architecture.width = 0.125;
  release.architecture.groups = 4;
  release.architecture.resolution = 64;
  CHECK(decode_release(encode(release)) == release);
}

TEST_CASE("a release carries the graph of a user's network, and of no other", "[models][release]") {
  Release release = small_release();
  release.architecture = {"torchscript", {}, {4}, 2};
  CHECK(decode_release(encode(release)).error().detail.find("needs a TorchScript file") != std::string::npos);
  release.graph = Bytes(100'000, std::byte{7});
  release.batch_norm = BatchNorm::local;
  CHECK(decode_release(encode(release)).value() == release);
  Release other = release;
  other.graph.back() = std::byte{8};
  CHECK(release_id(encode(other)) != release_id(encode(release)));
  release.graph.resize(graph_bytes_max + 1);
  CHECK_FALSE(check(release));
  release = small_release();
  release.graph = Bytes(10);
  CHECK_FALSE(check(release));
}

TEST_CASE("a release outgrows the first segment and is still one", "[models][release]") {
  Release release = small_release();
  release.known_inputs.assign(4 * 5000, 0.5F);
  for (int i = 0; i < 500; ++i) release.layout.tensors.push_back({"more." + std::to_string(i), {2, 2}});
  const Bytes payload = encode(release);
  CHECK(load_le<std::uint32_t>(payload) == 0);
  CHECK(payload.size() == 8 + 8 * load_le<std::uint32_t>(payload, 4));
  CHECK(decode_release(payload) == release);
}

TEST_CASE("Cap'n Proto's own tool reads a release by the schema", "[models][release]") {
  TemporaryFolder folder;
  const Bytes payload = encode(small_release());
  const auto file = folder.path / "release.bin";
  std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char*>(payload.data()), payload.size());
  const std::string command = "capnp decode models/package/package.capnp Release < " + file.string();
  std::FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string text;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text.push_back(static_cast<char>(c));
  REQUIRE(::pclose(pipe) == 0);
  for (const char* part : {"name = \"digits\"", "kind = \"mlp\"", "shape = [3, 4]", "kind = statistic",
                           "classes = [\"off\", \"on\"]", "mean = [0.5, 1, 1.5, 2]", "scale = [16]",
                           "snapshot = fp32", "maxDistance = 12.5", "minIntervalSeconds = 60",
                           "created = 1795341600250", "expires = 1826877600000", "epoch = 4"}) {
    CAPTURE(part, text);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("a release whose parts contradict each other is refused", "[models][release]") {
  const auto says = [](const std::string& part, auto change) {
    const std::string detail = refusal(change).detail;
    CAPTURE(part, detail);
    CHECK(detail.find(part) != std::string::npos);
  };
  says("'../x'", [](Release& r) { r.name = "../x"; });
  says("no kind", [](Release& r) { r.architecture.kind = ""; });
  says("width of 0", [](Release& r) { r.architecture.hidden = {0}; });
  says("width of -1", [](Release& r) { r.architecture.channels = {3, -1}; });
  says("65 layers", [](Release& r) { r.architecture.channels.assign(65, 1); });
  says("kernel, pool, groups or resolution of -3", [](Release& r) { r.architecture.kernel = -3; });
  says("kernel, pool, groups or resolution of", [](Release& r) { r.architecture.pool = 1LL << 40; });
  says("kernel, pool, groups or resolution of -1", [](Release& r) { r.architecture.groups = -1; });
  says("kernel, pool, groups or resolution of -32", [](Release& r) { r.architecture.resolution = -32; });
  says("width of inf", [](Release& r) { r.architecture.width = infinity; });
  says("no dimension", [](Release& r) { r.architecture.input_shape = {}; });
  says("dimension of -4", [](Release& r) { r.architecture.input_shape = {-4}; });
  says("more than", [](Release& r) { r.architecture.input_shape = {1LL << 40, 1LL << 40}; });
  says("the sparsity is 1", [](Release& r) { r.pruning.sparsity = 1; });
  says("takes 0", [](Release& r) { r.pruning.rounds = 0; });
  says("nothing can be pruned", [](Release& r) {
    r.pruning.sparsity = 0.5;
    r.layout.tensors.erase(r.layout.tensors.begin());
  });
  says("3 outputs names 2 classes", [](Release& r) { r.architecture.outputs = 3; });
  says("named twice", [](Release& r) { r.classes = {"on", "on"}; });
  says("only a classification", [](Release& r) { r.task = TaskKind::regression; });
  says("no tensor", [](Release& r) { r.layout.tensors.clear(); });
  says("twice", [](Release& r) { r.layout.tensors[1].name = "fc1.weight"; });
  says("dimension of 0", [](Release& r) { r.layout.tensors[0].shape = {0, 4}; });
  says("more than 2147483648", [](Release& r) { r.layout.tensors[0].shape = {1LL << 31, 2}; });
  says("the layout has more than", [](Release& r) { r.layout.tensors[0].shape = {1LL << 31}; });
  says("9 dimensions", [](Release& r) { r.layout.tensors[0].shape.assign(9, 1); });
  says("mean has 2 values", [](Release& r) { r.preprocessing.mean = {1, 2}; });
  says("scale has 0 values", [](Release& r) { r.preprocessing.scale = {}; });
  says("0, by which", [](Release& r) { r.preprocessing.scale = {0.0F}; });
  says("not finite", [](Release& r) { r.preprocessing.mean = {infinity}; });
  says("no variant", [](Release& r) { r.recipes = {}; });
  says("named twice", [](Release& r) { r.recipes = {"int8", "int8"}; });
  says("7 known inputs", [](Release& r) { r.known_inputs.pop_back(); });
  says("0 known inputs", [](Release& r) { r.known_inputs.clear(); });
  says("not finite", [](Release& r) { r.known_inputs[2] = std::nanf(""); });
  says("max_distance is 0", [](Release& r) { r.limits.max_distance = 0.0; });
  says("min_interval", [](Release& r) { r.limits.min_interval = std::chrono::seconds(-1); });
  says("expires before", [](Release& r) { r.limits.expires = r.created; });
  says("9999", [](Release& r) { r.limits.expires = UtcTime::max(); });
  CHECK(refusal([](Release& r) { r.recipes = {"pruned"}; }).code == Errc::unsupported);
  CHECK(refusal([](Release& r) { r.name = ""; }).code == Errc::corrupt);
}

TEST_CASE("preprocessing may have a value per channel when the input has several dimensions",
          "[models][release]") {
  const std::vector<std::int64_t> image = {3, 8, 8};
  CHECK(check(Preprocessing{{1, 2, 3}, {4, 5, 6}}, image));
  CHECK(check(Preprocessing{std::vector<float>(192, 1.0F), {4}}, image));
  CHECK_FALSE(check(Preprocessing{{1, 2}, {4}}, image));
  CHECK_FALSE(check(Preprocessing{std::vector<float>(8, 1.0F), {4}}, image));
}

TEST_CASE("a version manifest comes back as it was signed", "[models][version]") {
  VersionManifest manifest = small_version();
  CHECK(decode_version(encode(manifest)) == manifest);
  manifest.fallback.reset();
  manifest.variants.clear();
  manifest.parent = 0;
  manifest.round = 0;
  CHECK(decode_version(encode(manifest)) == manifest);
}

TEST_CASE("a version manifest that contradicts itself is refused", "[models][version]") {
  const auto refused = [](auto change) {
    VersionManifest manifest = small_version();
    change(manifest);
    const auto decoded = decode_version(encode(manifest));
    REQUIRE_FALSE(decoded.has_value());
    return decoded.error().code;
  };
  CHECK(refused([](VersionManifest& m) { m.manifest_version = 0; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.version = 0; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.parent = 9; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.snapshot_bytes = 0; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[1].name = "fp32"; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[1].name = "pickle"; }) == Errc::unsupported);
  CHECK(refused([](VersionManifest& m) { m.variants[0].bytes = 0; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].tolerance = infinity; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].tolerance = -1.0F; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].known_outputs[0] = infinity; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].accuracy = std::nan(""); }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].accuracy = 1.5; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants.assign(17, m.variants[0]); }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].microseconds = -1; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[0].microseconds = infinity; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.variants[1].own_ranges = true; }) == Errc::corrupt);
  const auto int8_refused = [&](auto change) {
    return refused([&](VersionManifest& m) { change(*m.variants[1].int8_kernels); });
  };
  CHECK(int8_refused([](Int8Kernels& int8) { int8.ranges.values[1].low = 0.5F; }) == Errc::corrupt);
  CHECK(int8_refused([](Int8Kernels& int8) { int8.ranges.values[0].high = infinity; }) == Errc::corrupt);
  CHECK(int8_refused([](Int8Kernels& int8) { int8.ranges.left_in_float.push_back("head.norm"); }) ==
        Errc::corrupt);
  CHECK(int8_refused([](Int8Kernels& int8) { int8.known_outputs.pop_back(); }) == Errc::corrupt);
  CHECK(int8_refused([](Int8Kernels& int8) { int8.known_outputs[1] = infinity; }) == Errc::corrupt);
  CHECK(int8_refused([](Int8Kernels& int8) { int8.tolerance = -1; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.fallback->version = 9; }) == Errc::corrupt);
  CHECK(refused([](VersionManifest& m) { m.created = UtcTime::min(); }) == Errc::corrupt);
}

TEST_CASE("a candidate manifest comes back, and one without a round or parent is refused",
          "[models][version]") {
  CandidateManifest manifest = small_candidate();
  CHECK(decode_candidate(encode(manifest)) == manifest);
  manifest.round = 0;
  CHECK(decode_candidate(encode(manifest)).error().code == Errc::corrupt);
  manifest = small_candidate();
  manifest.parent = 0;
  CHECK(decode_candidate(encode(manifest)).error().code == Errc::corrupt);
  manifest = small_candidate();
  manifest.snapshot_bytes = 0;
  CHECK(decode_candidate(encode(manifest)).error().code == Errc::corrupt);
}

TEST_CASE("bytes that are cut short, stretched or too many are refused", "[models][package]") {
  const Bytes payload = encode(small_release());
  for (std::size_t size = 0; size < payload.size(); ++size) {
    CAPTURE(size);
    REQUIRE_FALSE(decode_release(ByteSpan(payload).first(size)));
  }
  Bytes longer = payload;
  longer.resize(longer.size() + 8);
  CHECK_FALSE(decode_release(longer));
  CHECK(decode_release(Bytes(document_bytes_max + 8)).error().code == Errc::too_large);
}

TEST_CASE("damaged documents decode to something sound or not at all", "[models][package]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 20));
  CAPTURE(seed);
  Rng rng(seed);
  const Bytes release = encode(small_release());
  const Bytes version = encode(small_version());
  int survived = 0;
  for (int trial = 0; trial < 500; ++trial) {
    const auto damage = [&](Bytes bytes) {
      for (std::uint64_t i = 0; i <= uniform_below(rng, 4); ++i) {
        // Pointers and small counts lie in the low bytes of words; extreme values hurt most.
        const std::byte values[] = {std::byte{0}, std::byte{0xff}, std::byte{0x7f},
                                    static_cast<std::byte>(rng())};
        bytes[8 + uniform_below(rng, bytes.size() - 8)] = values[uniform_below(rng, 4)];
      }
      return bytes;
    };
    if (const auto decoded = decode_release(damage(release))) {
      ++survived;
      REQUIRE(check(*decoded));
      REQUIRE(decoded->layout.size() <= layout_entries_max);
    }
    if (const auto decoded = decode_version(damage(version))) REQUIRE(check(*decoded));
  }
  CHECK(survived > 0);  // Otherwise the damage never got past the first check.
}
