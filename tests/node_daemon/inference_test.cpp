#include "node/daemon/inference.h"

#include <cmath>
#include <limits>
#include <thread>

#include "tests/catch.h"
#include "tests/node_daemon/models.h"

namespace rivulet::node {
namespace {

TEST_CASE(
    "while versions are swapped a hundred times no request is dropped and none is answered by two models",
    "[node][inference]") {
  constexpr std::int64_t classes = 5;
  const Release release = softmax_release(3, classes);
  Metrics metrics;
  Inference inference(metrics);
  inference.swap(constant_model(release, 1, 1));

  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> answered = 0, dropped = 0, mixed = 0;
  const std::vector<std::vector<float>> request(4, {0.5F, 1.0F, -2.0F});
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      VersionNumber newest = 0;
      while (!stop) {
        const auto answers = inference.answer(request);
        if (!answers) {
          ++dropped;
          continue;
        }
        // Version v answers class v % 5, for each sample of the request.
        const auto version = answers->served->version;
        if (version < newest) ++mixed;
        newest = version;
        for (const auto& result : answers->results) {
          if (!result || result->class_index != static_cast<std::int64_t>(version) % classes) ++mixed;
        }
        ++answered;
      }
    });
  }
  for (VersionNumber version = 2; version <= 101; ++version) {
    const std::uint64_t before = answered;
    inference.swap(constant_model(release, version, version % classes));
    while (answered == before) std::this_thread::yield();  // Each version has answered somebody.
  }
  stop = true;
  for (auto& client : clients) client.join();
  CHECK(dropped == 0);
  CHECK(mixed == 0);
  CHECK(answered >= 100);
  CHECK(inference.inferences() == 4 * answered);
  CHECK(inference.served()->version == 101);
}

TEST_CASE("a sample of a wrong length is told both counts and leaves the others their answers",
          "[node][inference]") {
  const Release release = softmax_release(3, 2);
  Metrics metrics;
  Inference inference(metrics);
  const std::vector<std::vector<float>> request = {{1, 2, 3}, {1, 2}, {4, 5, 6}};
  const auto none = inference.answer(request);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Errc::busy);

  inference.swap(constant_model(release, 1, 1, 2.0F));
  const auto answers = inference.answer(request);
  REQUIRE(answers);
  REQUIRE(answers->results.size() == 3);
  REQUIRE(answers->results[0]);
  // Softmax of (0, 2): e^2 / (1 + e^2).
  CHECK(answers->results[0]->probabilities[1] == Approx(std::exp(2.0) / (1 + std::exp(2.0))).epsilon(1e-6));
  REQUIRE_FALSE(answers->results[1]);
  CHECK(answers->results[1].error().detail.find('2') != std::string::npos);
  CHECK(answers->results[1].error().detail.find('3') != std::string::npos);
  CHECK(answers->results[2]);
  CHECK(inference.inferences() == 2);
  CHECK(inference.errors() == 0);  // The model is not to blame.
}

TEST_CASE("a model that answers no number is reported once, an input too large for any model is not",
          "[node][inference]") {
  Release release = softmax_release(2, 2);
  std::vector<float> weights(release.layout.size(), 0.0F);
  weights[0] = 1e30F;
  weights[1] = -1e30F;  // Overflows only from 3e8 on, to infinity minus infinity.
  Metrics metrics;
  Inference inference(metrics);
  std::vector<std::uint64_t> reported;
  inference.set_on_failure([&](std::uint64_t manifest, const std::string&) { reported.push_back(manifest); });
  VersionManifest manifest;
  manifest.version = 7;
  manifest.manifest_version = 9;
  const std::vector<std::vector<float>> huge = {{1e38F, 1e38F}};

  auto model = load_served_model(release, weights, manifest, "fp32");
  REQUIRE(model);
  inference.swap(*model);
  const auto answers = inference.answer(huge);
  REQUIRE(answers);
  CHECK_FALSE(answers->results[0]);
  CHECK(inference.errors() == 1);
  // However many come, in one request or in many: whoever sends them does not decide what serves.
  const std::vector<std::vector<float>> hundred(100, {3.4e38F, -3.4e38F});
  for (int i = 0; i < 3; ++i) {
    const auto none = inference.answer(hundred);
    REQUIRE(none);
    for (const auto& result : none->results) CHECK_FALSE(result);
  }
  CHECK(inference.errors() == 301);
  CHECK(reported.empty());
  CHECK(inference.served()->version == 7);

  release.known_inputs = {1e38F, 1e38F};
  model = load_served_model(release, weights, manifest, "fp32");
  REQUIRE(model);
  inference.swap(*model);
  REQUIRE(inference.answer(huge));
  REQUIRE(inference.answer(huge));
  CHECK(reported == std::vector<std::uint64_t>{9});
}

}  // namespace
}  // namespace rivulet::node
