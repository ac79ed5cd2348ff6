@0xb5a1e3c0d6f24711;

# What crosses the wire between a node and the coordinator, protocol version 1. docs/protocol.md tells
# the order of messages; this file is their form.
#
# A frame is a u32 length (little-endian, without itself) and one Message in Cap'n Proto's standard
# stream form with exactly one segment. Fields are only ever added. Ids and keys are Data of a fixed
# length: keys, content ids and digests 32 bytes, fleet and task ids 16, signatures 64. Times are
# milliseconds since 1970-01-01 UTC.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("rivulet::wire");

struct Message {
  union {
    trustChain @0 :TrustChain;      # C>N  first frame of a connection, and the answer to trustRequest
    trustRequest @1 :TrustRequest;  # N>C  the whole chain of roots, please
    hello @2 :Hello;                # N>C  an enrolled node opens a session
    enrol @3 :Enrol;                # N>C  a new node shows its token
    enrolled @4 :Enrolled;          # C>N
    welcome @5 :Welcome;            # C>N  answer to hello
    refused @6 :Refused;            # C>N  the last frame before the coordinator closes
    backoff @7 :Backoff;            # C>N  load is shed: come back later
    ready @8 :Ready;                # N>C  after welcome: the node's state
    assignment @9 :Envelope;        # C>N  version manifest: what the node should serve
    task @10 :Task;                 # C>N
    taskCancelled @11 :TaskCancelled;  # C>N
    fetch @12 :Fetch;               # the receiver of some content asks its holder
    chunkList @13 :ChunkList;       # the holder's answer to fetch with wantList
    chunk @14 :Chunk;
    credit @15 :Credit;             # the receiver allows more bytes
    noContent @16 :NoContent;       # the holder has no such content (any more)
    offer @17 :Envelope;            # N>C  signed UpdateHeader; answered by fetch or receipt
    receipt @18 :Receipt;           # C>N
    verdicts @19 :Verdicts;         # C>N
    evaluation @20 :Envelope;       # N>C  signed EvaluationReport; answered by receipt
    heartbeat @21 :Void;            # either
    telemetry @22 :Telemetry;       # N>C
    activation @23 :Activation;     # N>C  how the switch to an assigned version ended
    declined @24 :Declined;         # N>C  a task will bring no update, or no report
  }
}

# Signatures cover payload bytes behind a context string and a zero byte, never structures. The
# contexts are rivulet.trust.v1, .release.v1, .version.v1, .candidate.v1, .update.v1, .evaluation.v1
# and .time.v1; none can stand for another. A payload is one Cap'n Proto message of one segment.
struct Envelope {
  payload @0 :Data;
  signature @1 :Data;
}

# ---- Trust -----------------------------------------------------------------------------------------

# Signed by the root key that it names; one that changes the root, by the former root too.
struct TrustDocument {
  fleet @0 :Data;
  name @1 :Text;
  version @2 :UInt64;          # from 1; never falls on any node
  created @3 :Int64;
  expires @4 :Int64;
  rootKey @5 :Data;
  releaseKeys @6 :List(Data);
  coordinatorKey @7 :Data;
}

struct SignedTrust {
  payload @0 :Data;
  signatures @1 :List(KeySignature);
}

struct KeySignature {
  key @0 :Data;
  signature @1 :Data;
}

struct TrustChain {
  documents @0 :List(SignedTrust);  # by rising version; the last is the one in force
}

struct TrustRequest {
  fromVersion @0 :UInt64;  # send the documents that changed the root from here on, and the last
}

struct SignedTime {
  fleet @0 :Data;
  utc @1 :Int64;
}

# ---- Sessions --------------------------------------------------------------------------------------

struct Hello {
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  fleet @2 :Data;
  software @3 :Text;
}

struct Enrol {
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  fleet @2 :Data;
  software @3 :Text;
  secret @4 :Data;
}

struct Enrolled {
  name @0 :Text;  # of the fleet
}

struct Welcome {
  protocol @0 :UInt16;
  time @1 :Envelope;          # SignedTime by the coordinator key
  heartbeatSeconds @2 :UInt32;
}

struct Refused {
  reason @0 :UInt16;  # see protocol/reason.h
  detail @1 :Text;
}

struct Backoff {
  reason @0 :UInt16;
  retryAfterMs @1 :UInt32;
}

struct Ready {
  serves @0 :UInt64;               # version number; 0 = none
  manifestVersion @1 :UInt64;      # the highest that the node has accepted
  samples @2 :UInt64;              # labelled samples to train on
  holdoutSamples @3 :UInt64;
  openTasks @4 :List(Data);        # tasks that it holds and has not answered
  awaitingVerdict @5 :List(Data);  # tasks whose update was accepted
}

struct Telemetry {
  serves @0 :UInt64;
  samples @1 :UInt64;
  holdoutSamples @2 :UInt64;
  inferences @3 :UInt64;
  inferenceErrors @4 :UInt64;
}

struct Activation {
  version @0 :UInt64;
  manifestVersion @1 :UInt64;
  outcome @2 :UInt16;  # see protocol/reason.h
  detail @3 :Text;
}

# ---- Tasks -----------------------------------------------------------------------------------------

enum TaskType {
  train @0;
  evaluate @1;
}

struct Task {
  id @0 :Data;
  type @1 :TaskType;
  round @2 :UInt64;
  remainingMs @3 :UInt64;    # until the deadline, by the receiver's monotonic clock
  base @4 :Envelope;         # version manifest to train from, or the parent to compare with
  training @5 :TrainingPlan;
  candidate @6 :Envelope;    # evaluate: candidate manifest
}

struct TrainingPlan {
  epochs @0 :UInt32;
  batchSize @1 :UInt32;
  learningRate @2 :Float64;
  momentum @3 :Float64;
  weightDecay @4 :Float64;
  proximalMu @5 :Float64;
  normBound @6 :Float64;     # the L2 norm that a delta is clipped to before coding; 0 = none
  seed @7 :UInt64;
  codec @8 :UInt16;          # 0 fp32, 1 int8
  optimizer @9 :UInt16;      # 0 SGD, 1 Adam
}

struct TaskCancelled {
  id @0 :Data;
  reason @1 :UInt16;
}

# The coordinator gives the task up. One that it sends again is declined again.
struct Declined {
  task @0 :Data;
  reason @1 :UInt16;
  detail @2 :Text;
}

struct UpdateHeader {
  fleet @0 :Data;
  task @1 :Data;
  node @2 :Data;
  baseVersion @3 :UInt64;
  baseHash @4 :Data;
  codec @5 :UInt16;
  parameterCount @6 :UInt64;
  sampleCount @7 :UInt64;
  lossFirst @8 :Float64;
  lossLast @9 :Float64;
  content @10 :Data;
  contentBytes @11 :UInt64;
  time @12 :Int64;
}

struct EvaluationReport {
  fleet @0 :Data;
  task @1 :Data;
  node @2 :Data;
  parentHash @3 :Data;
  candidateHash @4 :Data;
  bothRight @5 :UInt64;
  parentOnly @6 :UInt64;
  candidateOnly @7 :UInt64;
  bothWrong @8 :UInt64;
  parentLossSum @9 :Float64;
  candidateLossSum @10 :Float64;
  time @11 :Int64;
}

struct Receipt {
  task @0 :Data;
  outcome @1 :UInt16;  # 0 accepted, 1 duplicate, 2 refused
  reason @2 :UInt16;
  detail @3 :Text;
}

struct Verdicts {
  entries @0 :List(Verdict);
}

struct Verdict {
  task @0 :Data;
  outcome @1 :UInt16;  # 0 aggregated, 1 discarded
  reason @2 :UInt16;
  version @3 :UInt64;  # aggregated: the version that it went into
}

# ---- Content ---------------------------------------------------------------------------------------

# A transfer runs holder > receiver in either direction; the newest fetch replaces an earlier one.
struct Fetch {
  content @0 :Data;
  offset @1 :UInt64;
  credit @2 :UInt32;   # bytes that may be sent before more credit comes
  wantList @3 :Bool;
}

struct ChunkList {
  content @0 :Data;
  length @1 :UInt64;
  chunks @2 :List(Data);
}

struct Chunk {
  content @0 :Data;
  offset @1 :UInt64;
  data @2 :Data;       # at most 64 KiB, and no more than the credit
}

struct Credit {
  content @0 :Data;
  bytes @1 :UInt32;
}

struct NoContent {
  content @0 :Data;
}
