#include "protocol/core/session.h"
#include "protocol/payload.h"
#include "tests/catch.h"
#include "tests/protocol/future.capnp.h"
#include "tests/protocol/values.h"

using namespace rivulet;
using namespace rivulet::testing;

/// What peers of another day say: a version 1 with more fields, kinds and types, or with fewer.
namespace {

using payload::data;

capnp::Data::Reader text_data(std::string_view text) { return data(bytes_of(text)); }

template <typename Value>
Value of(const std::vector<Message>& messages) {
  for (const Message& message : messages) {
    if (const auto* value = std::get_if<Value>(&message)) return *value;
  }
  return {};
}

/// A frame of a newer peer, which also fills the root's own new field.
template <typename Fill>
Bytes newer_frame(Fill fill) {
  capnp::MallocMessageBuilder builder;
  auto root = builder.initRoot<future::Message>();
  root.setTrace(text_data("a trace that we know nothing of"));
  fill(root);
  return payload::to_bytes(builder);
}

template <typename Value>
void check_read_as(const Bytes& frame, const Value& expected) {
  const auto message = decode_message(frame);
  REQUIRE(message);
  REQUIRE(std::holds_alternative<Value>(*message));
  CHECK((std::get<Value>(*message) == expected));
}

void fill(future::Envelope::Builder out, const Envelope& envelope) {
  out.setPayload(data(ByteSpan(envelope.payload)));
  out.setSignature(data(envelope.signature));
  out.setCertificate(text_data("certificate"));
}

Bytes newer_task(future::TaskType type, const message::Task& task) {
  return newer_frame([&](future::Message::Builder root) {
    auto out = root.initTask();
    out.setId(data(task.id));
    out.setType(type);
    out.setRound(task.round);
    out.setRemainingMs(task.remaining_ms);
    fill(out.initBase(), task.base);
    fill(out.initCandidate(), task.candidate);
    out.initSecureGroup(2).set(1, text_data("group"));
    auto plan = out.initTraining();
    plan.setEpochs(task.training.epochs);
    plan.setBatchSize(task.training.batch_size);
    plan.setLearningRate(task.training.learning_rate);
    plan.setMomentum(task.training.momentum);
    plan.setWeightDecay(task.training.weight_decay);
    plan.setProximalMu(task.training.proximal_mu);
    plan.setNormBound(task.training.norm_bound);
    plan.setSeed(task.training.seed);
    plan.setCodec(task.training.codec);
    plan.setOptimizer(task.training.optimizer);
    plan.initFrozenLayers(1).set(0, "0.weight");
    plan.setDropout(0.5);
  });
}

Bytes newer_kind() {
  return newer_frame([](future::Message::Builder root) { root.initSketch().initBins(3).set(2, 9); });
}

}  // namespace

TEST_CASE("fields that a newer peer added are passed over", "[protocol][skew]") {
  const auto messages = one_of_each();
  SECTION("hello") {
    const auto hello = of<message::Hello>(messages);
    check_read_as(newer_frame([&](future::Message::Builder root) {
                    auto out = root.initHello();
                    out.setProtocolMin(hello.protocol_min);
                    out.setProtocolMax(hello.protocol_max);
                    out.setFleet(data(hello.fleet));
                    out.setSoftware(hello.software);
                    out.initCapabilities(1).set(0, "secure-sum");
                  }),
                  hello);
  }
  SECTION("welcome, and the envelope in it") {
    const auto welcome = of<message::Welcome>(messages);
    check_read_as(newer_frame([&](future::Message::Builder root) {
                    auto out = root.initWelcome();
                    out.setProtocol(welcome.protocol);
                    fill(out.initTime(), welcome.time);
                    out.setHeartbeatSeconds(welcome.heartbeat_seconds);
                    out.setCompression(3);
                  }),
                  welcome);
  }
  SECTION("ready") {
    const auto ready = of<message::Ready>(messages);
    check_read_as(newer_frame([&](future::Message::Builder root) {
                    auto out = root.initReady();
                    out.setServes(ready.serves);
                    out.setManifestVersion(ready.manifest_version);
                    out.setSamples(ready.samples);
                    out.setHoldoutSamples(ready.holdout_samples);
                    out.initOpenTasks(1).set(0, data(ready.open_tasks[0]));
                    auto awaiting = out.initAwaitingVerdict(2);
                    for (unsigned i = 0; i < 2; ++i) awaiting.set(i, data(ready.awaiting_verdict[i]));
                    out.setTemperature(61.5F);
                    out.initDrift().initBins(2).set(0, 1);
                  }),
                  ready);
  }
  SECTION("a task and its plan") {
    const auto task = of<message::Task>(messages);
    check_read_as(newer_task(future::TaskType::EVALUATE, task), task);
  }
  SECTION("the entries of a list") {
    const auto verdicts = of<message::Verdicts>(messages);
    check_read_as(newer_frame([&](future::Message::Builder root) {
                    auto list = root.initVerdicts().initEntries(2);
                    for (unsigned i = 0; i < 2; ++i) {
                      const message::Verdict& verdict = verdicts.entries[i];
                      list[i].setTask(data(verdict.task));
                      list[i].setOutcome(static_cast<std::uint16_t>(verdict.outcome));
                      list[i].setReason(static_cast<std::uint16_t>(verdict.reason));
                      list[i].setVersion(verdict.version);
                      list[i].setWeight(0.25);
                    }
                  }),
                  verdicts);
  }
  SECTION("declined, for a reason that has no name yet") {
    auto declined = of<message::Declined>(messages);
    declined.reason = static_cast<Reason>(900);
    check_read_as(newer_frame([&](future::Message::Builder root) {
                    auto out = root.initDeclined();
                    out.setTask(data(declined.task));
                    out.setReason(900);
                    out.setDetail(declined.detail);
                    out.setRetryAfterMs(5000);
                  }),
                  declined);
    CHECK(name(declined.reason) == "unknown");
  }
}

TEST_CASE("fields that an older peer does not know are zero", "[protocol][skew]") {
  check_read_as(newer_frame([](future::Message::Builder root) { root.initTelemetry().setServes(3); }),
                message::Telemetry{3, 0, 0, 0, 0});
}

TEST_CASE("a kind of message or task that is unknown is said to be unsupported", "[protocol][skew]") {
  CHECK(decode_message(newer_kind()).error().code == Errc::unsupported);
  const auto task = of<message::Task>(one_of_each());
  CHECK(decode_message(newer_task(future::TaskType::SKETCH, task)).error().code == Errc::unsupported);
}

TEST_CASE("an open session passes over what it does not know, a stranger may not say it",
          "[protocol][skew][session]") {
  const Limits limits;
  core::CreditPool credit(limits.transfer_memory);
  const Now now{std::chrono::hours(1), UtcTime(std::chrono::seconds(1'800'000'000))};
  for (const core::Role role : {core::Role::coordinator, core::Role::node}) {
    core::Session session(role, limits, credit, now);
    const bool node = role == core::Role::node;
    std::ignore = node ? session.on_frame(encode(Message(message::Welcome{1, {}, 60})), now)
                       : session.send(message::Welcome{1, {}, 60}, now);
    REQUIRE(session.open());
    const auto task = of<message::Task>(one_of_each());
    CHECK(session.on_frame(newer_kind(), now).empty());
    CHECK(session.on_frame(newer_task(future::TaskType::SKETCH, task), now).empty());
    CHECK(session.open());
    const Message next = node ? Message(message::Receipt{}) : Message(message::Ready{});
    const auto effects = session.on_frame(encode(next), now);
    REQUIRE(effects.size() == 1);
    CHECK((std::get<core::Deliver>(effects[0]).message == next));

    core::Session stranger(role, limits, credit, now);
    const auto ended = stranger.on_frame(newer_kind(), now);
    REQUIRE_FALSE(ended.empty());
    CHECK(std::get<core::CloseSession>(ended.back()).reason == Reason::malformed_frame);
  }
}
