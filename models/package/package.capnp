@0xabc6a2da3deae98b;

# What is signed about models: releases by the release key, version and candidate manifests by the
# coordinator. Fields are only ever added. Ids and digests are Data of 32 bytes, the fleet's of 16;
# times are milliseconds since 1970-01-01 UTC. Each is the root of one message of one segment.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("rivulet::schema");

enum TaskKind { classification @0; regression @1; anomaly @2; }
enum TensorKind { parameter @0; statistic @1; }
enum BatchNorm { averaged @0; local @1; }
enum RegressionLoss { squared @0; huber @1; absolute @2; }
enum SnapshotForm { fp32 @0; int8 @1; sparseFp32 @2; sparseInt8 @3; }

struct Architecture {
  kind @0 :Text;
  hidden @1 :List(Int64);
  inputShape @2 :List(Int64);
  outputs @3 :Int64;
  channels @4 :List(Int64);         # this and what follows: empty or 0 where the kind has no such field
  kernel @5 :Int64;
  pool @6 :Int64;
  width @7 :Float64;
  groups @8 :Int64;
  resolution @9 :Int64;
}

struct TensorSpec {
  name @0 :Text;
  shape @1 :List(Int64);
  kind @2 :TensorKind;
}

struct Release {
  fleet @0 :Data;
  name @1 :Text;
  architecture @2 :Architecture;
  layout @3 :List(TensorSpec);
  task @4 :TaskKind;
  classes @5 :List(Text);
  mean @6 :List(Float32);
  scale @7 :List(Float32);
  snapshot @8 :SnapshotForm;
  initialWeights @9 :Data;
  initialWeightsHash @10 :Data;
  recipes @11 :List(Text);
  knownInputs @12 :List(Float32);
  maxDistance @13 :Float64;
  minIntervalSeconds @14 :Int64;
  expires @15 :Int64;
  created @16 :Int64;
  epoch @17 :UInt64;
  graph @18 :Data;                  # TorchScript without weights, of an architecture "torchscript"
  batchNorm @19 :BatchNorm;
  teacherRelease @20 :Data;         # the id of the release that this one was made of; empty: of none
  teacherVersion @21 :UInt64;
  sparsity @22 :Float64;            # of the weights, in the end; 0: no pruning
  pruningBegin @23 :UInt32;
  pruningRounds @24 :UInt32 = 20;
  regressionLoss @25 :RegressionLoss;
}

struct Variant {
  name @0 :Text;
  content @1 :Data;
  bytes @2 :UInt64;
  knownOutputs @3 :List(Float32);
  tolerance @4 :Float32;
  accuracy @5 :Float64;
  hasAccuracy @6 :Bool;
  activationRanges @7 :List(Float32); # lows and highs by turns; empty: no static int8
  leftInFloat @8 :List(Text);
  int8Outputs @9 :List(Float32);      # empty: nothing is said of int8, and the weights run in float
  int8Tolerance @10 :Float32;
  activationBytes @11 :UInt64;        # 0: not measured, like what follows
  microseconds @12 :Float64;
  ownRanges @13 :Bool;
}

struct VersionManifest {
  fleet @0 :Data;
  manifestVersion @1 :UInt64;
  version @2 :UInt64;
  release @3 :Data;
  releaseContent @4 :Data;
  parent @5 :UInt64;
  round @6 :UInt64;
  created @7 :Int64;
  form @8 :SnapshotForm;
  snapshot @9 :Data;
  snapshotBytes @10 :UInt64;
  weightsHash @11 :Data;
  variants @12 :List(Variant);
  fallbackVersion @13 :UInt64;      # 0: none
  fallbackWeightsHash @14 :Data;
  epoch @15 :UInt64;
  auditHead @16 :Data;
  reference @17 :Text;
}

struct CandidateManifest {
  fleet @0 :Data;
  round @1 :UInt64;
  release @2 :Data;
  releaseContent @3 :Data;
  parent @4 :UInt64;
  parentWeightsHash @5 :Data;
  form @6 :SnapshotForm;
  snapshot @7 :Data;
  snapshotBytes @8 :UInt64;
  weightsHash @9 :Data;
}
