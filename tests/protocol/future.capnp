@0xd0b3a4c1f2e59687;

# Parts of protocol/schema.capnp as peers of other days may have them: a later version 1 that adds fields, a
# kind of message and a type of task, and an earlier one that had fewer fields. Ordinals are those of the
# real schema; what the tests don't use is Void, or missing.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("rivulet::future");

struct Message {
  union {
    trustChain @0 :Void;
    trustRequest @1 :Void;
    hello @2 :Hello;
    enrol @3 :Void;
    enrolled @4 :Void;
    welcome @5 :Welcome;
    refused @6 :Void;
    backoff @7 :Void;
    ready @8 :Ready;
    assignment @9 :Envelope;
    task @10 :Task;
    taskCancelled @11 :Void;
    fetch @12 :Void;
    chunkList @13 :Void;
    chunk @14 :Void;
    credit @15 :Void;
    noContent @16 :Void;
    offer @17 :Void;
    receipt @18 :Void;
    verdicts @19 :Verdicts;
    evaluation @20 :Void;
    heartbeat @21 :Void;
    telemetry @22 :PastTelemetry;
    activation @23 :Void;
    declined @24 :Declined;
    sketch @25 :Sketch;  # new
  }
  trace @26 :Data;       # new
}

struct Sketch {
  bins @0 :List(UInt64);
}

struct Envelope {
  payload @0 :Data;
  signature @1 :Data;
  certificate @2 :Data;  # new
}

struct Hello {
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  fleet @2 :Data;
  software @3 :Text;
  capabilities @4 :List(Text);  # new
}

struct Welcome {
  protocol @0 :UInt16;
  time @1 :Envelope;
  heartbeatSeconds @2 :UInt32;
  compression @3 :UInt16;  # new
}

struct Ready {
  serves @0 :UInt64;
  manifestVersion @1 :UInt64;
  samples @2 :UInt64;
  holdoutSamples @3 :UInt64;
  openTasks @4 :List(Data);
  awaitingVerdict @5 :List(Data);
  temperature @6 :Float32;  # new
  drift @7 :Sketch;         # new
}

enum TaskType {
  train @0;
  evaluate @1;
  sketch @2;  # new
}

struct Task {
  id @0 :Data;
  type @1 :TaskType;
  round @2 :UInt64;
  remainingMs @3 :UInt64;
  base @4 :Envelope;
  training @5 :TrainingPlan;
  candidate @6 :Envelope;
  secureGroup @7 :List(Data);  # new
}

struct TrainingPlan {
  epochs @0 :UInt32;
  batchSize @1 :UInt32;
  learningRate @2 :Float64;
  momentum @3 :Float64;
  weightDecay @4 :Float64;
  proximalMu @5 :Float64;
  normBound @6 :Float64;
  seed @7 :UInt64;
  codec @8 :UInt16;
  optimizer @9 :UInt16;
  frozenLayers @10 :List(Text);  # new
  dropout @11 :Float64;          # new
}

struct Verdicts {
  entries @0 :List(Verdict);
}

struct Verdict {
  task @0 :Data;
  outcome @1 :UInt16;
  reason @2 :UInt16;
  version @3 :UInt64;
  weight @4 :Float64;  # new: the elements of a list grow
}

struct Declined {
  task @0 :Data;
  reason @1 :UInt16;
  detail @2 :Text;
  retryAfterMs @3 :UInt32;  # new
}

struct PastTelemetry {
  serves @0 :UInt64;  # no more was known yet
}
