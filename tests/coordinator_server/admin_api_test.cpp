#include "coordinator/server/admin_api.h"

#include <filesystem>
#include <future>
#include <set>
#include <thread>

#include "coordinator/core/audit.h"
#include "coordinator/core/records.h"
#include "link/system_clock.h"
#include "protocol/sha256.h"
#include "protocol/token.h"
#include "storage/file.h"
#include "tests/catch.h"
#include "tests/coordinator_server/server_rig.h"

using namespace rivulet;
using nlohmann::json;

namespace {

const std::string node_path = "/v1/nodes/" + std::string(64, 'a');

std::string error_of(const HttpReply& reply) {
  return json::parse(reply.body).at("error").get<std::string>();
}

}  // namespace

TEST_CASE("every call but the monitoring ones needs the token", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const std::string gets[] = {
      "/v1/status", "/v1/nodes", "/v1/rounds",   "/v1/rounds/1",           "/v1/versions",   "/v1/versions/1",
      "/v1/trust",  "/v1/audit", "/v1/releases", "/v1/versions/1/weights", "/v1/releases/aa"};
  const std::string posts[] = {"/v1/tokens",           "/v1/rounds",
                               "/v1/releases",         "/v1/trust",
                               node_path + "/tag",     node_path + "/quarantine",
                               node_path + "/release", node_path + "/revoke"};
  for (const std::string& token :
       {std::string(), std::string("x"), server.token + "x", server.token.substr(1)}) {
    for (const std::string& path : gets) {
      const HttpReply reply = http(server.admin, "GET", path, token);
      CAPTURE(path, token);
      CHECK(reply.status == 401);
      CHECK(error_of(reply) == "permission");
    }
    for (const std::string& path : posts) {
      CAPTURE(path, token);
      CHECK(http(server.admin, "POST", path, token, "{}").status == 401);
    }
  }
  for (const char* path : {"/healthz", "/readyz", "/metrics"})
    CHECK(http(server.admin, "GET", path, "").status == 200);
}

TEST_CASE("a call that is not in order is answered with a status and a reason", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  CHECK(server.post("/v1/tokens", "{").status == 400);
  CHECK(server.post("/v1/tokens", "[]").status == 400);
  CHECK(server.post("/v1/tokens", R"({"expires": 3})").status == 400);
  CHECK(server.post("/v1/tokens", R"({"uses": 0})").status == 400);
  CHECK(server.post("/v1/tokens", R"({"uses": -1})").status == 400);
  CHECK(server.post("/v1/tokens", R"({"uses": 18446744073709551615})").status == 400);
  CHECK(server.post("/v1/tokens", R"({"expires_s": "1h"})").status == 400);
  CHECK(server.post("/v1/rounds", R"({"wait": 1})").status == 400);
  CHECK(server.post("/v1/trust", "{}").status == 400);
  CHECK(server.post("/v1/releases", "{}").status == 400);
  CHECK(server.post(node_path + "/tag", R"({"tags": "a"})").status == 400);
  CHECK(server.post("/v1/nodes/abc/revoke").status == 400);
  CHECK(server.post(node_path + "/revoke").status == 404);
  CHECK(server.get("/v1/rounds/7").status == 404);
  CHECK(server.get("/v1/versions/99999999999999999999999").status == 404);
  CHECK(server.get("/v1/nothing").status == 404);
  CHECK(error_of(server.get("/v1/nothing")) == "not_found");
  CHECK(server.post("/v1/nothing", "x").status == 404);
  CHECK(server.post("/v1/rounds", "{}").status == 404);  // There is no model.
  CHECK(server.get_json("/v1/audit").at("seq") == 1);    // None of it left a trace.
}

TEST_CASE("a body that is nested without end is refused, wherever it stands", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  // The library copies and compares by recursion: a thread's stack ends at some 50,000 levels.
  const std::string bomb = std::string(200'000, '[') + std::string(200'000, ']');
  std::string objects;
  for (int i = 0; i < 50'000; ++i) objects += R"({"wait":)";
  objects += "1" + std::string(50'000, '}');
  for (const std::string& body :
       {bomb, objects, R"({"wait":)" + bomb + "}", R"({"uses":)" + bomb + "}", R"({"tags":)" + bomb + "}",
        R"({"payload":)" + bomb + "}", R"({"release":)" + bomb + "}", std::string(200'000, '[')}) {
    for (const std::string& path :
         {std::string("/v1/rounds"), std::string("/v1/tokens"), std::string("/v1/releases"),
          std::string("/v1/trust"), node_path + "/tag"}) {
      CAPTURE(path, body.substr(0, 20));
      const HttpReply reply = server.post(path, body);
      CHECK(reply.status == 400);
      CHECK(reply.body.find("nested") != std::string::npos);
    }
  }
  // Sixteen levels are read, and judged for what they are.
  const std::string deep = R"({"wait":)" + std::string(15, '[') + std::string(15, ']') + "}";
  CHECK(server.post("/v1/rounds", deep).body.find("true or false") != std::string::npos);
  CHECK(server.get("/healthz").status == 200);
}

TEST_CASE("a form in place of JSON is refused and says so", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const std::string form =
      "--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\n{}\r\n--x--\r\n";
  for (const std::string& path : {std::string("/v1/tokens"), std::string("/v1/rounds"),
                                  std::string("/v1/releases"), std::string("/v1/trust")}) {
    for (const std::string& body : {form, std::string("no form at all")}) {
      CAPTURE(path, body);
      const HttpReply reply =
          http(server.admin, "POST", path, server.token, body, "multipart/form-data; boundary=x");
      CHECK(reply.status == 400);
      CHECK(reply.body.find("send JSON") != std::string::npos);
    }
  }
  CHECK(http(server.admin, "POST", "/v1/tokens", "", form, "multipart/form-data; boundary=x").status == 401);
}

TEST_CASE("a trust document that is not in order is refused with the key that is wrong",
          "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const json good = server.get_json("/v1/trust").at("signed");
  const auto refused = [&](const json& body, const std::string& key) {
    const HttpReply reply = server.post("/v1/trust", body.dump());
    CAPTURE(reply.body);
    CHECK(reply.status == 400);
    const std::string detail = json::parse(reply.body).at("detail");
    CHECK(detail.find("\"" + key + "\"") != std::string::npos);
    CHECK(detail.find("json.exception") == std::string::npos);
    CHECK(detail.find("stored record") == std::string::npos);
  };
  json body = good;
  body["payload"] = 7;
  refused(body, "payload");
  body["payload"] = "not base64!";
  refused(body, "payload");
  body = good;
  body.erase("signatures");
  refused(body, "signatures");
  body["signatures"] = {1, 2};
  refused(body, "signatures");
  body = good;
  body["signatures"][0]["key"] = "abc";
  refused(body, "key");
  body = good;
  body["signatures"][0]["signature"] = nullptr;
  refused(body, "signature");
  CHECK(server.post("/v1/trust", good.dump()).status == 200);  // As it is in force.
}

TEST_CASE("a body that is too large is refused and not kept", "[coordinator][admin]") {
  const FoundedFleet fleet;
  auto config = fleet.config();
  config.server.admin_body_bytes_max = 3 << 20;
  RunningServer server(fleet, config);
  const HttpReply reply = server.post("/v1/tokens", std::string((1 << 20) + 1, ' '));
  CHECK(reply.status == 413);
  CHECK(error_of(reply) == "too_large");
  CHECK(server.post("/v1/tokens", "{}" + std::string((1 << 20) - 2, ' ')).status == 200);
  CHECK(server.post("/v1/releases", std::string(4 << 20, ' ')).status == 413);
  CHECK(server.post("/v1/releases", std::string(65 << 20, ' ')).status == 413);
}

TEST_CASE("a token names the fleet, the root and where to go", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const json reply = server.post_json("/v1/tokens", {{"expires_s", 60}, {"uses", 3}});
  const auto token = parse_token(reply.at("token").get<std::string>());
  REQUIRE(token.has_value());
  CHECK(token->address == to_string(server.listen));
  CHECK(token->root == fleet.key("offline/root.key").public_key());
  CHECK(token->fleet == fleet_of(server));
  CHECK(to_rfc3339(token->expires) == reply.at("expires").get<std::string>());
  // Only a hash of the secret is anywhere on the coordinator's side.
  CHECK(server.get("/v1/audit").body.find(token->secret.hex()) == std::string::npos);
  const json other = server.post_json("/v1/tokens", json::object());
  CHECK(parse_token(other.at("token").get<std::string>())->secret != token->secret);
}

TEST_CASE("the public address stands in tokens", "[coordinator][admin]") {
  const FoundedFleet fleet;
  auto config = fleet.config();
  config.server.public_address = "fleet.example:443";
  RunningServer server(fleet, config);
  CHECK(parse_token(server.post_json("/v1/tokens", json::object()).at("token").get<std::string>())->address ==
        "fleet.example:443");
}

TEST_CASE("the audit log is streamed whole and in order", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const int tokens = 300;  // More than one part of the stream.
  for (int i = 0; i < tokens; ++i) server.post_json("/v1/tokens", json::object());
  const std::string text = server.get("/v1/audit").body;
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    lines.push_back(text.substr(at, text.find('\n', at) - at));
  REQUIRE(lines.size() == tokens + 1);
  CHECK_FALSE(coordinator::verify_audit(lines).has_value());
  CHECK(json::parse(lines.back()).at("hash") == server.get_json("/v1/status").at("audit").at("head"));
  const std::string tail = server.get("/v1/audit?from=301").body;
  CHECK(tail == lines.back() + "\n");
}

TEST_CASE("a model is imported by who holds the release key alone", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const SecretKey release_key = fleet.key("offline/release.key");
  const ToyRelease toy(fleet_of(server), release_key);

  CHECK(server.post("/v1/releases", ToyRelease(fleet_of(server), fleet.key("coordinator.key")).body.dump())
            .status == 403);
  CHECK(server.post("/v1/releases", ToyRelease(FleetId{}, release_key).body.dump()).status == 403);
  json wrong = toy.body;
  const std::vector<float> zeros(toy.weights.size());
  wrong["weights"] = to_base64url(std::as_bytes(std::span(zeros)));
  CHECK(server.post("/v1/releases", wrong.dump()).status == 400);
  wrong = toy.body;
  wrong["holdout"] = {{"inputs", {{1, 2}}}, {"labels", {3}}};  // Of three classes.
  CHECK(server.post("/v1/releases", wrong.dump()).status == 400);
  wrong["holdout"] = {{"inputs", {{1, 2, 3}}}, {"labels", {0}}};
  CHECK(server.post("/v1/releases", wrong.dump()).status == 400);
  CHECK(server.get_json("/v1/versions").empty());

  json body = toy.body;
  // Scores by hand: W = [[.5, .25], [0, -.25], [-.5, -.75]], b = [-1, -1.25, -1.5]; [1, 0] is class 0,
  // and so is [-1, 0]? logits -1.5, -1.25, -1.0: class 2.
  body["test"] = {{"inputs", {{1, 0}, {-1, 0}, {1, 0}, {-1, 0}}}, {"labels", {0, 2, 1, 2}}};
  const json imported = server.post_json("/v1/releases", body);
  CHECK(imported.at("version") == 1);
  CHECK(imported.at("name") == "toy");
  const json version = server.get_json("/v1/versions/1");
  CHECK(version.at("metrics").at("accuracy") == 0.75);
  CHECK(version.at("variants").size() == 2);
  const HttpReply weights = server.get("/v1/versions/1/weights");
  CHECK(weights.type == "application/octet-stream");
  CHECK(weights.body == text_of(std::as_bytes(std::span(toy.weights))));
  const std::string id = imported.at("release");
  const HttpReply envelope = server.get("/v1/releases/" + id);
  CHECK(to_base64url(bytes_of(envelope.body)) == toy.body.at("release").get<std::string>());
  CHECK(server.get_json("/v1/releases").at(0).at("id") == id);
  CHECK(server.post_json("/v1/releases", body).at("version") == 1);  // Again is no harm.
  CHECK(server.metric("rivulet_version") == 1);
  CHECK(server.metric("rivulet_version_accuracy_ratio") == 0.75);

  REQUIRE(server.stop().has_value());
  RunningServer restarted(fleet);
  CHECK(restarted.get_json("/v1/versions/1").at("metrics").at("accuracy") == 0.75);
  CHECK(restarted.get("/v1/versions/1/weights").body == weights.body);
}

TEST_CASE("a regression is imported with values in place of labels", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const SecretKey release_key = fleet.key("offline/release.key");
  ToyRelease toy(fleet_of(server), release_key);
  toy.release.task = TaskKind::regression;
  toy.release.classes.clear();
  const auto refused = [&](const json& holdout, const std::string& words) {
    json body = toy.body;
    body["release"] = to_base64url(encode(seal(release_key, Context::release, encode(toy.release))));
    body["holdout"] = holdout;
    const HttpReply reply = server.post("/v1/releases", body.dump());
    CAPTURE(reply.body);
    CHECK(reply.status == 400);
    CHECK(reply.body.find(words) != std::string::npos);
  };
  const json inputs = {{1, 0}, {-1, 0}};
  refused({{"inputs", inputs}, {"labels", {0, 1}}}, "0 targets for 2 samples");
  refused({{"inputs", inputs}, {"targets", {0.5, "x"}}}, "no number");
  refused({{"inputs", inputs}, {"targets", {0.5}}}, "1 labels and 4 inputs");
  refused({{"inputs", inputs}, {"labels", {0, 1}}, {"targets", {0.5, 1}}}, "exclude each other");
  json body = toy.body;
  body["release"] = to_base64url(encode(seal(release_key, Context::release, encode(toy.release))));
  body["holdout"] = {{"inputs", inputs}, {"targets", {0.5, -2}}};
  const std::string release = server.post_json("/v1/releases", body).at("release");
  const auto file = read_file(fleet.folder / "datasets" / (release + ".holdout"), 4096);
  REQUIRE(file.has_value());
  float target = 0;
  std::memcpy(&target, file->data() + 16 + 2 * 8 + 4 * 4 + 4, sizeof target);
  CHECK(target == -2);
}

TEST_CASE("the samples of a release cannot be replaced, nor its model by one of another name",
          "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const FleetId id = fleet_of(server);
  const SecretKey release_key = fleet.key("offline/release.key");
  const ToyRelease toy(id, release_key);
  json body = toy.body;
  body["holdout"] = {{"inputs", {{1, 0}, {-1, 0}}}, {"labels", {0, 2}}};
  const std::string release = server.post_json("/v1/releases", body).at("release");
  const auto file = fleet.folder / "datasets" / (release + ".holdout");
  const auto before = read_file(file, 4096);
  REQUIRE(before.has_value());
  const Digest hash = Digest::from_bytes(ByteSpan(*before).last(Digest::size)).value();
  CHECK(server.get("/v1/audit").body.find("\"holdout\":\"" + hash.hex() + "\"") != std::string::npos);

  json other = body;
  other["holdout"]["labels"] = {1, 1};
  CHECK(server.post("/v1/releases", other.dump()).status == 409);
  other["holdout"] = body["holdout"];
  other["test"] = body["holdout"];
  CHECK(server.post("/v1/releases", other.dump()).status == 409);
  CHECK(read_file(file, 4096).value() == *before);
  CHECK_FALSE(std::filesystem::exists(fleet.folder / "datasets" / (release + ".test")));
  CHECK(server.post_json("/v1/releases", body).at("version") == 1);

  ToyRelease renamed(id, release_key);
  renamed.release.name = "toy-2";
  renamed.body["release"] =
      to_base64url(encode(seal(release_key, Context::release, encode(renamed.release))));
  const HttpReply refused = server.post("/v1/releases", renamed.body.dump());
  CHECK(refused.status == 409);
  CHECK(error_of(refused) == "conflict");
  CHECK(server.get_json("/v1/versions").size() == 1);
}

TEST_CASE("join tokens can be listed and revoked by their ids", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const json made = server.post_json("/v1/tokens", {{"uses", 3}});
  const json kept = server.post_json("/v1/tokens", json::object());
  const std::string id = made.at("id");
  CHECK(sha256(parse_token(made.at("token").get<std::string>())->secret.span()).hex() == id);
  const json listed = server.get_json("/v1/tokens");
  REQUIRE(listed.size() == 2);
  for (const json& token : listed) {
    CHECK(token.at("state") == "valid");
    CHECK(token.at("uses") == (token.at("id") == id ? 3 : 1));
    CHECK(token.at("used") == 0);
  }
  CHECK(server.post("/v1/tokens/" + id.substr(0, 7) + "/revoke").status == 400);
  CHECK(server.post("/v1/tokens/0123456789/revoke").status == 404);
  CHECK(server.post_json("/v1/tokens/" + id.substr(0, 8) + "/revoke", json::object()).at("id") == id);
  CHECK(server.post("/v1/tokens/" + id + "/revoke").status == 404);
  REQUIRE(server.get_json("/v1/tokens").size() == 1);
  CHECK(server.get_json("/v1/tokens")[0].at("id") == kept.at("id"));
}

TEST_CASE("a release without room is refused, and nodes are not taken meanwhile", "[coordinator][admin]") {
  const FoundedFleet fleet;
  auto config = fleet.config();
  config.server.blob_quota_bytes = 100;
  RunningServer server(fleet, config);
  const ToyRelease toy(fleet_of(server), fleet.key("offline/release.key"));
  const HttpReply reply = server.post("/v1/releases", toy.body.dump());
  CHECK(reply.status == 507);
  CHECK(error_of(reply) == "storage_full");
  CHECK(http(server.admin, "GET", "/readyz", "").status == 507);
  CHECK(http(server.admin, "GET", "/healthz", "").status == 200);
  CHECK(server.metric("rivulet_storage_writable") == 0);
}

TEST_CASE("calls that wait for rounds leave threads for the others", "[coordinator][admin]") {
  const FoundedFleet fleet;
  auto config = fleet.config();
  config.server.admin_threads = 2;
  RunningServer server(fleet, config);
  server.post_json("/v1/releases", ToyRelease(fleet_of(server), fleet.key("offline/release.key")).body);
  const std::string wait = json{{"count", 1}, {"wait", true}, {"timeout_s", 30}}.dump();
  auto first = std::async(std::launch::async, [&] { return server.post("/v1/rounds", wait); });
  while (server.get_json("/v1/rounds").empty()) continue;  // The first call has begun a round once it is there.
  const HttpReply second = server.post("/v1/rounds", wait);
  CHECK(second.status == 503);
  CHECK(error_of(second) == "busy");
  CHECK(server.get("/v1/status").status == 200);
  REQUIRE(server.stop().has_value());
  CHECK(first.get().status == 503);
}

TEST_CASE("of imports that are refused nothing stays on the disk", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const SecretKey release_key = fleet.key("offline/release.key");
  server.post_json("/v1/releases", ToyRelease(fleet_of(server), release_key).body);
  const auto files = [&](const char* folder) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(fleet.folder / folder))
      names.insert(entry.path().filename().string());
    return names;
  };
  std::filesystem::create_directories(fleet.folder / "datasets");
  const auto blobs = files("blobs");
  ToyRelease other(fleet_of(server), release_key);
  other.release.name = "another";
  const Envelope envelope = seal(release_key, Context::release, encode(other.release));
  other.body["release"] = to_base64url(encode(envelope));
  other.body["holdout"] = {{"inputs", {{1, 0}}}, {"labels", {0}}};
  const HttpReply reply = server.post("/v1/releases", other.body.dump());
  CHECK(reply.status == 409);
  REQUIRE(server.stop().has_value());
  CHECK(files("blobs") == blobs);
  CHECK(files("datasets").empty());
}

TEST_CASE("trust is renewed by the root alone", "[coordinator][admin]") {
  const FoundedFleet fleet;
  RunningServer server(fleet);
  const json now = server.get_json("/v1/trust");
  auto document =
      decode_trust(from_base64url(now.at("signed").at("payload").get<std::string>()).value()).value();
  document.version += 1;
  document.expires += std::chrono::days(30);
  const auto body = [](const SignedTrust& trust) { return coordinator::to_json(trust).dump(); };
  CHECK(server.post("/v1/trust", body(sign_trust(document, fleet.key("offline/release.key")))).status == 403);
  CHECK(server.get_json("/v1/trust") == now);
  CHECK(server.post("/v1/trust", body(sign_trust(document, fleet.key("offline/root.key")))).status == 200);
  CHECK(server.get_json("/v1/trust").at("document").at("version") == 2);
}
