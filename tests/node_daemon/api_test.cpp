#include "node/daemon/api.h"

#include <httplib.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "storage/memory_disk.h"
#include "tests/catch.h"
#include "tests/node_daemon/models.h"

namespace rivulet::node {
namespace {

using Json = nlohmann::json;

const std::string token = "0123456789abcdef0123456789abcdef";

struct Rig {
  MemoryDisk disk;
  std::unique_ptr<Store> store = make_memory_store(disk, {sample_families.begin(), sample_families.end()});
  std::unique_ptr<SampleStore> samples;
  Metrics metrics;
  Inference inference{metrics};
  std::vector<Error> storage_errors;
  UtcTime utc{std::chrono::milliseconds(1'800'000'000'000)};
  std::unique_ptr<Api> api;

  Rig() {
    auto opened = SampleStore::open(*store, {});
    REQUIRE(opened);
    samples = std::move(*opened);
    auto started = Api::start({.inference = inference,
                               .samples = *samples,
                               .metrics = metrics,
                               .token = token,
                               .status = [] { return Result<std::string>(R"({"node":"me"})"); },
                               .on_storage = [this](const Error& error) { storage_errors.push_back(error); },
                               .utc = [this] { return utc; }},
                              {.payload_bytes_max = 20'000});
    REQUIRE(started);
    api = std::move(*started);
  }

  httplib::Client client() const { return httplib::Client("http://" + api->address()); }

  std::pair<int, Json> post(const std::string& path, const std::string& body, httplib::Headers headers = {},
                            const std::string& type = "application/json") const {
    auto result = client().Post(path, headers, body, type);
    REQUIRE(result);
    return {result->status, Json::parse(result->body, nullptr, false)};
  }
};

const httplib::Headers with_token = {{"Authorization", "Bearer " + token}};

TEST_CASE("inference over HTTP answers in the form of the command line, by JSON and by raw numbers",
          "[node][api]") {
  const Rig rig;
  const_cast<Rig&>(rig).inference.swap(constant_model(softmax_release(2, 3), 4, 2, 3.0F));
  const auto [status, json] = rig.post("/v1/infer", R"({"inputs":[[1,2],[3,4]]})");
  CHECK(status == 200);
  REQUIRE(json["results"].size() == 2);
  const Json& second = json["results"][1];
  CHECK(second["index"] == 1);
  CHECK(second["class"] == "2");
  CHECK(second["version"] == 4);
  CHECK(second["variant"] == "fp32");
  CHECK(second["microseconds"].get<double>() > 0);
  // Softmax of (0, 0, 3): e^3 / (2 + e^3).
  CHECK(second["probabilities"][2].get<double>() ==
        Approx(std::exp(3.0) / (2 + std::exp(3.0))).epsilon(1e-5));

  const std::vector<float> numbers = {1, 2, 3, 4};
  const std::string raw(reinterpret_cast<const char*>(numbers.data()), sizeof(float) * numbers.size());
  const auto [raw_status, raw_json] = rig.post("/v1/infer", raw, {}, "application/octet-stream");
  CHECK(raw_status == 200);
  CHECK(raw_json["results"].size() == 2);
  CHECK(raw_json["results"][0]["probabilities"] == second["probabilities"]);
  const auto bare = rig.client().Post("/v1/infer", {{"Accept", "application/octet-stream"}}, raw,
                                      "application/octet-stream");
  REQUIRE(bare);
  CHECK(bare->body.size() == 2 * 3 * sizeof(float));
  CHECK(bare->get_header_value("X-Rivulet-Version") == "4");
  CHECK(bare->get_header_value("X-Rivulet-Variant") == "fp32");
}

TEST_CASE("a request that is not in order is refused with what is wrong", "[node][api]") {
  Rig rig;
  CHECK(rig.post("/v1/infer", R"({"inputs":[[1,2]]})").first == 503);
  CHECK(rig.client().Get("/readyz")->status == 503);
  rig.inference.swap(constant_model(softmax_release(2, 3), 1, 0));
  CHECK(rig.client().Get("/readyz")->status == 200);

  const auto bad = GENERATE(as<std::string>{}, "{", "[]", "{}", R"({"inputs":3})", R"({"inputs":[["a",2]]})",
                            R"({"inputs":[[1,1e300]]})", R"({"inputs":[{}]})");
  const auto [status, json] = rig.post("/v1/infer", bad);
  CAPTURE(bad, json.dump());
  CHECK(status == 400);
  CHECK(json.contains("error"));
  CHECK_FALSE(json["detail"].get<std::string>().empty());

  const auto [length_status, length] = rig.post("/v1/infer", R"({"inputs":[[1,2,3]]})");
  CHECK(length_status == 400);
  const std::string detail = length["detail"];
  CHECK(detail.find('2') != std::string::npos);
  CHECK(detail.find('3') != std::string::npos);
  CHECK(length["results"][0].contains("error"));

  const auto [mixed_status, mixed] = rig.post("/v1/infer", R"({"inputs":[[1],[1,2]]})");
  CHECK(mixed_status == 200);
  CHECK(mixed["results"][0].contains("error"));
  CHECK(mixed["results"][1]["class"] == "0");

  CHECK(rig.post("/v1/infer", "abcde", {}, "application/octet-stream").first == 400);
  CHECK(rig.post("/v1/infer", "abcdefghijkl", {}, "application/octet-stream").first == 400);
  CHECK(rig.post("/v1/infer", std::string(30'000, ' ')).first == 413);
  CHECK(rig.post("/v1/nothing", "{}").first == 404);
}

TEST_CASE("raw samples of which none is right are a wrong request, as in JSON", "[node][api]") {
  Rig rig;
  rig.inference.swap(constant_model(softmax_release(2, 3), 1, 0));
  const auto ask = [&](const std::vector<float>& numbers) {
    const std::string raw(reinterpret_cast<const char*>(numbers.data()), sizeof(float) * numbers.size());
    return rig.post("/v1/infer", raw, {}, "application/octet-stream");
  };
  const float nan = std::nanf("");
  const auto [status, json] = ask({nan, 0, 1, nan});
  CAPTURE(json.dump());
  CHECK(status == 400);
  CHECK(json["error"] == "invalid");
  CHECK(json["detail"].get<std::string>().starts_with("sample 0: "));
  REQUIRE(json["results"].size() == 2);
  CHECK(json["results"][1].contains("error"));
  const auto [mixed_status, mixed] = ask({nan, 0, 1, 2});
  CHECK(mixed_status == 200);
  CHECK(mixed["results"][0].contains("error"));
  CHECK(mixed["results"][1]["class"] == "0");
  CHECK_FALSE(mixed.contains("error"));
}

TEST_CASE("samples come in with the token alone, and each is answered for", "[node][api]") {
  Rig rig;
  const std::string body =
      R"({"samples":[{"inputs":[1,2],"label":"a"},{"inputs":[1,2],"label":"a"},{"inputs":[3,4],
      "label":5,"id":"x"},{"inputs":[]},{"label":"a"},{"inputs":[1],"color":"red"}]})";
  CHECK(rig.post("/v1/samples", body).first == 401);
  CHECK(rig.post("/v1/samples", body, {{"Authorization", "Bearer wrong"}}).first == 401);
  CHECK(rig.samples->counts().total() == 0);

  const auto [status, json] = rig.post("/v1/samples?sync=true", body, with_token);
  CHECK(status == 200);
  CHECK(json["stored"] == 2);
  CHECK(json["duplicate"] == 1);
  REQUIRE(json["refused"].size() == 3);
  CHECK(rig.samples->counts().total() == 2);
  REQUIRE(rig.samples->visit(Split::training, [&](const SampleView& view) {
    CHECK(view.time == rig.utc);  // The node's time, whatever the local clock says.
    return true;
  }));
  CHECK(rig.post("/v1/samples", "[1]", with_token).first == 400);

  rig.disk.fail_next_commit(Errc::storage_full);
  CHECK(rig.post("/v1/samples", R"({"samples":[{"inputs":[7]}]})", with_token).first == 507);
  CHECK(rig.storage_errors.empty());
  rig.disk.fail_next_commit(Errc::storage);
  CHECK(rig.post("/v1/samples", R"({"samples":[{"inputs":[8]}]})", with_token).first == 500);
  CHECK(rig.storage_errors.size() == 1);
}

TEST_CASE("a request under another host's name is refused, also for reading", "[node][api]") {
  const Rig rig;
  for (const char* host : {"evil.example", "evil.example:80", "127.0.0.1.evil.example", "127.0.0.1:x", ""}) {
    CAPTURE(host);
    const auto result = rig.client().Get("/v1/status", {{"Host", host}});
    REQUIRE(result);
    CHECK(result->status == 403);
    CHECK(rig.post("/v1/infer", R"({"inputs":[[1,2]]})", {{"Host", host}}).first == 403);
  }
  for (const char* host : {"localhost", "LOCALHOST:1234", "127.0.0.1"}) {
    CHECK(rig.client().Get("/v1/status", {{"Host", host}})->status == 200);
  }
  CHECK(Json::parse(rig.client().Get("/v1/status")->body)["node"] == "me");
}

TEST_CASE("a web page of another origin can neither ask nor read", "[node][api]") {
  Rig rig;
  rig.inference.swap(constant_model(softmax_release(2, 3), 1, 0));
  const std::string body = R"({"inputs":[[1,2]]})";
  for (const char* origin :
       {"http://evil.example", "https://evil.example", "http://127.0.0.1", "http://localhost:3000", "null"}) {
    CAPTURE(origin);
    CHECK(rig.post("/v1/infer", body, {{"Origin", origin}}).first == 403);
    CHECK(rig.post("/v1/samples", R"({"samples":[{"inputs":[1]}]})",
                   {{"Origin", origin}, {"Authorization", "Bearer " + token}})
              .first == 403);
    CHECK(rig.client().Get("/v1/status", {{"Origin", origin}})->status == 403);
  }
  CHECK(rig.samples->counts().total() == 0);
  CHECK(rig.inference.inferences() == 0);
  CHECK(rig.post("/v1/infer", body, {{"Origin", "http://" + rig.api->address()}}).first == 200);
  // What a form can send where a browser names no origin.
  for (const char* type : {"text/plain", "text/plain; charset=utf-8", "text/html"}) {
    CAPTURE(type);
    CHECK(rig.post("/v1/infer", body, {}, type).first == 415);
  }
  for (const char* type : {"application/json; charset=utf-8", "application/x-www-form-urlencoded"}) {
    CAPTURE(type);
    CHECK(rig.post("/v1/infer", body, {}, type).first == 200);
  }
}

TEST_CASE("who asks while every thread has a lively connection is answered all the same", "[node][api]") {
  Rig rig;  // 8 threads.
  std::atomic<bool> stop = false;
  std::atomic<int> lively = 0;
  std::vector<std::thread> busy;
  for (int i = 0; i < 8; ++i) {
    busy.emplace_back([&] {
      auto client = rig.client();
      client.set_keep_alive(true);
      bool first = true;
      while (!stop) {
        const auto result = client.Get("/healthz");
        if (result && std::exchange(first, false)) ++lively;
      }
    });
  }
  while (lively < 8) std::this_thread::yield();
  auto ninth = rig.client();
  ninth.set_read_timeout(60);
  for (int i = 0; i < 20; ++i) {
    const auto result = ninth.Get("/healthz");
    REQUIRE(result);
    CHECK(result->status == 200);
  }
  stop = true;
  for (auto& thread : busy) thread.join();
}

TEST_CASE("a sample that the disk has damaged is not blamed on who sends one", "[node][api]") {
  Rig rig;
  const std::string sample = R"({"samples":[{"inputs":[1,2],"label":"1"}]})";
  REQUIRE(rig.post("/v1/samples", sample, with_token).first == 200);
  const std::vector<float> inputs = {1, 2};
  const Digest id = sample_id({}, inputs);
  const WriteBatch damage{Put{"sample_ids", copy_of(id.span()), Bytes(3)}};
  REQUIRE(rig.store->commit(damage, Durability::synced));
  const auto [status, json] = rig.post("/v1/samples", sample, with_token);
  CHECK(status == 500);
  CHECK(json["error"] == "corrupt");
  CHECK(json["detail"].get<std::string>().find(id.hex()) != std::string::npos);
  CHECK(rig.storage_errors.empty());
}

TEST_CASE("metrics count what was answered and stored, and name no secret", "[node][api]") {
  Rig rig;
  rig.inference.swap(constant_model(softmax_release(2, 3), 6, 0));
  rig.post("/v1/infer", R"({"inputs":[[1,2],[3,4],[5,6]]})");
  rig.post("/v1/samples", R"({"samples":[{"inputs":[1,2]},{"inputs":[1,2]},{"inputs":["a"]},{"inputs":[]}]})",
           with_token);
  const auto result = rig.client().Get("/metrics");
  REQUIRE(result);
  for (const char* line : {"rivulet_node_inferences_total 3", "rivulet_node_served_version 6",
                           "rivulet_node_samples_stored_total 1", "rivulet_node_samples_duplicate_total 1",
                           "rivulet_node_samples_refused_total 2", "rivulet_node_inference_seconds_count 3",
                           "rivulet_node_samples{split=\"unlabelled\"} 1"}) {
    CAPTURE(line, result->body);
    CHECK(result->body.find(std::string(line) + "\n") != std::string::npos);
  }
  CHECK(result->body.find(token) == std::string::npos);
  CHECK(rig.client().Get("/healthz")->status == 200);
}

TEST_CASE("while versions are swapped a hundred times, HTTP drops no request and mixes no two models",
          "[node][api]") {
  constexpr std::size_t classes = 5;
  Rig rig;
  const Release release = softmax_release(3, classes);
  rig.inference.swap(constant_model(release, 1, 1));
  const std::vector<float> numbers(4 * 3, 0.5F);
  const std::string raw(reinterpret_cast<const char*>(numbers.data()), sizeof(float) * numbers.size());
  const std::string json = R"({"inputs":[[1,2,3],[4,5,6],[7,8,9],[0,0,0]]})";

  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> answered = 0, dropped = 0, mixed = 0;
  // Version v answers class v % 5 to each of the four samples.
  const auto is_whole = [&](std::uint64_t version, std::span<const std::string> named) {
    return named.size() == 4 && std::ranges::all_of(named, [version](const std::string& one) {
             return one == std::to_string(version % classes);
           });
  };
  const auto ask_json = [&](httplib::Client& client) -> std::optional<std::uint64_t> {
    const auto result = client.Post("/v1/infer", json, "application/json");
    if (!result || result->status != 200) return {};
    const Json document = Json::parse(result->body);
    const std::uint64_t version = document["results"][0]["version"];
    std::vector<std::string> named;
    for (const Json& one : document["results"]) named.push_back(one["class"]);
    for (const Json& one : document["results"]) mixed += one["version"] == version ? 0 : 1;
    mixed += is_whole(version, named) ? 0 : 1;
    return version;
  };
  const auto ask_raw = [&](httplib::Client& client) -> std::optional<std::uint64_t> {
    const auto result =
        client.Post("/v1/infer", {{"Accept", "application/octet-stream"}}, raw, "application/octet-stream");
    if (!result || result->status != 200) return {};
    const std::uint64_t version = std::stoull(result->get_header_value("X-Rivulet-Version"));
    std::vector<float> values(result->body.size() / sizeof(float));
    std::memcpy(values.data(), result->body.data(), values.size() * sizeof(float));
    std::vector<std::string> named;
    for (std::size_t at = 0; at + classes <= values.size(); at += classes) {
      const auto row = std::span(values).subspan(at, classes);
      named.push_back(std::to_string(std::ranges::max_element(row) - row.begin()));
    }
    mixed += is_whole(version, named) ? 0 : 1;
    return version;
  };
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      auto client = rig.client();
      client.set_keep_alive(true);
      std::uint64_t newest = 0;
      while (!stop) {
        const auto version = i % 2 == 0 ? ask_json(client) : ask_raw(client);
        if (!version) {
          ++dropped;
          continue;
        }
        mixed += *version < newest ? 1 : 0;
        newest = *version;
        ++answered;
      }
    });
  }
  for (VersionNumber version = 2; version <= 101; ++version) {
    const std::uint64_t before = answered + dropped;
    rig.inference.swap(constant_model(release, version, version % classes));
    while (answered + dropped < before + 4) std::this_thread::yield();  // Each version has answered somebody.
  }
  stop = true;
  for (auto& client : clients) client.join();
  CHECK(dropped == 0);
  CHECK(mixed == 0);
  CHECK(answered >= 400);
  CHECK(rig.client().Get("/readyz")->body.find("101") != std::string::npos);
}

TEST_CASE("one connection serves a thousand requests", "[node][api]") {
  const Rig rig;
  auto client = rig.client();
  client.set_keep_alive(true);
  for (int i = 0; i < 1000; ++i) REQUIRE(client.Get("/healthz")->status == 200);
}

}  // namespace
}  // namespace rivulet::node
