#include "models/package/version.h"

#include <capnp/message.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "models/package/release.h"
#include "models/package/wire.h"

namespace rivulet {
namespace {

constexpr std::size_t variants_max = 16;

float greatest_of(std::span<const float> outputs) {
  float greatest = 0;
  for (const float value : outputs) greatest = std::max(greatest, std::fabs(value));
  return greatest;
}

Status check_answers(const std::string& variant, std::span<const float> outputs, float tolerance) {
  if (!std::isfinite(tolerance) || tolerance < 0.0F) {
    return fail(Errc::invalid, fmt::format("the tolerance of the variant '{}' is {}", variant, tolerance));
  }
  if (std::ranges::all_of(outputs, [](float value) { return std::isfinite(value); })) return {};
  return fail(Errc::invalid, fmt::format("a known output of the variant '{}' is not finite", variant));
}

Status check(const Int8Kernels& int8, const VariantInfo& variant) {
  const auto at = [&](const Error& error) {
    return fail_at(fmt::format("the variant '{}' in int8", variant.name), error);
  };
  if (Status status = check(int8.ranges); !status) return at(status.error());
  if (int8.known_outputs.empty() || int8.known_outputs.size() != variant.known_outputs.size()) {
    return at({Errc::invalid, fmt::format("{} known outputs, but {} in float", int8.known_outputs.size(),
                                          variant.known_outputs.size())});
  }
  return check_answers(variant.name, int8.known_outputs, int8.tolerance);
}

Status check(const VariantInfo& variant) {
  if (std::find(known_recipes.begin(), known_recipes.end(), variant.name) == known_recipes.end()) {
    return fail(Errc::unsupported, fmt::format("'{}' is no variant that this build knows", variant.name));
  }
  if (variant.bytes == 0)
    return fail(Errc::invalid, fmt::format("the variant '{}' has no bytes", variant.name));
  if (Status status = check_answers(variant.name, variant.known_outputs, variant.tolerance); !status)
    return status;
  if (variant.accuracy && !(*variant.accuracy >= 0.0 && *variant.accuracy <= 1.0)) {
    return fail(Errc::invalid,
                fmt::format("the accuracy of the variant '{}' is {}", variant.name, *variant.accuracy));
  }
  if (!std::isfinite(variant.microseconds) || variant.microseconds < 0) {
    return fail(Errc::invalid,
                fmt::format("the variant '{}' takes {} microseconds", variant.name, variant.microseconds));
  }
  if (variant.int8_kernels && variant.own_ranges) {
    return fail(Errc::invalid,
                fmt::format("the variant '{}' has ranges, and leaves them to the nodes", variant.name));
  }
  return variant.int8_kernels ? check(*variant.int8_kernels, variant) : Status{};
}

Status read_int8_kernels(schema::Variant::Reader reader, std::optional<Int8Kernels>& out) {
  if (reader.getInt8Outputs().size() == 0) return {};
  const std::vector<float> bounds = wire_form::read_list<float>(reader.getActivationRanges());
  if (bounds.size() % 2 != 0 || bounds.size() / 2 > activation_ranges_max) {
    return fail(Errc::corrupt, fmt::format("{} bounds of activation ranges", bounds.size()));
  }
  Int8Kernels& int8 = out.emplace();
  for (std::size_t i = 0; i < bounds.size(); i += 2) int8.ranges.values.push_back({bounds[i], bounds[i + 1]});
  wire_form::Reads reads;
  reads.texts(reader.getLeftInFloat(), int8.ranges.left_in_float, "leftInFloat");
  int8.known_outputs = wire_form::read_list<float>(reader.getInt8Outputs());
  int8.tolerance = reader.getInt8Tolerance();
  return reads.status();
}

void write(const Int8Kernels& int8, schema::Variant::Builder out) {
  std::vector<float> bounds;
  for (const ActivationRange& range : int8.ranges.values) {
    bounds.push_back(range.low);
    bounds.push_back(range.high);
  }
  wire_form::write_list(bounds, out.initActivationRanges(static_cast<unsigned>(bounds.size())));
  const auto& left = int8.ranges.left_in_float;
  wire_form::write_texts(left, out.initLeftInFloat(static_cast<unsigned>(left.size())));
  wire_form::write_list(int8.known_outputs,
                        out.initInt8Outputs(static_cast<unsigned>(int8.known_outputs.size())));
  out.setInt8Tolerance(int8.tolerance);
}

Status read_variants(capnp::List<schema::Variant>::Reader source, std::vector<VariantInfo>& out) {
  using namespace wire_form;
  if (source.size() > variants_max) return fail(Errc::corrupt, fmt::format("{} variants", source.size()));
  Reads reads;
  for (const auto reader : source) {
    VariantInfo& variant = out.emplace_back();
    reads.text(reader.getName(), variant.name, "a variant's name")
        .id(reader.getContent(), variant.content, "a variant's content");
    variant.bytes = reader.getBytes();
    variant.known_outputs = read_list<float>(reader.getKnownOutputs());
    variant.tolerance = reader.getTolerance();
    if (reader.getHasAccuracy()) variant.accuracy = reader.getAccuracy();
    reads.keep(read_int8_kernels(reader, variant.int8_kernels));
    variant.activation_bytes = reader.getActivationBytes();
    variant.microseconds = reader.getMicroseconds();
    variant.own_ranges = reader.getOwnRanges();
  }
  return reads.status();
}

Result<VersionManifest> read_version(schema::VersionManifest::Reader reader) {
  using namespace wire_form;
  VersionManifest manifest;
  Reads reads;
  reads.id(reader.getFleet(), manifest.fleet, "fleet")
      .id(reader.getRelease(), manifest.release, "release")
      .id(reader.getReleaseContent(), manifest.release_content, "releaseContent")
      .id(reader.getSnapshot(), manifest.snapshot, "snapshot")
      .id(reader.getWeightsHash(), manifest.weights_hash, "weightsHash")
      .id(reader.getAuditHead(), manifest.audit_head, "auditHead")
      .text(reader.getReference(), manifest.reference, "reference")
      .keep(read_enum(reader.getForm(), snapshot_form_last, manifest.form, "form"))
      .keep(read_variants(reader.getVariants(), manifest.variants));
  manifest.manifest_version = reader.getManifestVersion();
  manifest.version = reader.getVersion();
  manifest.parent = reader.getParent();
  manifest.round = reader.getRound();
  manifest.created = utc(reader.getCreated());
  manifest.snapshot_bytes = reader.getSnapshotBytes();
  manifest.epoch = reader.getEpoch();
  if (reader.getFallbackVersion() != 0) {
    VersionManifest::Fallback& fallback = manifest.fallback.emplace();
    fallback.version = reader.getFallbackVersion();
    reads.id(reader.getFallbackWeightsHash(), fallback.weights_hash, "fallbackWeightsHash");
  }
  if (!reads.status()) return std::unexpected(reads.status().error());
  if (const Status sound = as_corrupt(check(manifest)); !sound) return std::unexpected(sound.error());
  return manifest;
}

Result<CandidateManifest> read_candidate(schema::CandidateManifest::Reader reader) {
  using namespace wire_form;
  CandidateManifest manifest;
  Reads reads;
  reads.id(reader.getFleet(), manifest.fleet, "fleet")
      .id(reader.getRelease(), manifest.release, "release")
      .id(reader.getReleaseContent(), manifest.release_content, "releaseContent")
      .id(reader.getParentWeightsHash(), manifest.parent_weights_hash, "parentWeightsHash")
      .id(reader.getSnapshot(), manifest.snapshot, "snapshot")
      .id(reader.getWeightsHash(), manifest.weights_hash, "weightsHash")
      .keep(read_enum(reader.getForm(), snapshot_form_last, manifest.form, "form"));
  manifest.round = reader.getRound();
  manifest.parent = reader.getParent();
  manifest.snapshot_bytes = reader.getSnapshotBytes();
  if (!reads.status()) return std::unexpected(reads.status().error());
  if (const Status sound = as_corrupt(check(manifest)); !sound) return std::unexpected(sound.error());
  return manifest;
}

}  // namespace

float float_tolerance_of(TaskKind task, std::span<const float> outputs) {
  return 1e-3F * (task == TaskKind::classification ? 1.0F : std::max(1.0F, greatest_of(outputs)));
}

float int8_tolerance_of(TaskKind task, std::span<const float> outputs) {
  return 0.05F * (task == TaskKind::classification ? 1.0F : greatest_of(outputs));
}

Status check(const VersionManifest& manifest) {
  if (manifest.manifest_version == 0) return fail(Errc::invalid, "the manifest's own version is 0");
  if (manifest.version == 0) return fail(Errc::invalid, "the version is 0");
  if (manifest.parent >= manifest.version) {
    return fail(Errc::invalid,
                fmt::format("version {} has version {} as its parent", manifest.version, manifest.parent));
  }
  if (!wire_form::is_plausible(manifest.created)) {
    return fail(Errc::invalid, "the time is not between the years 1970 and 9999");
  }
  if (manifest.snapshot_bytes == 0) return fail(Errc::invalid, "the snapshot has no bytes");
  if (manifest.variants.size() > variants_max) {
    return fail(Errc::invalid,
                fmt::format("{} variants; {} are allowed", manifest.variants.size(), variants_max));
  }
  std::set<std::string_view> names;
  for (const VariantInfo& variant : manifest.variants) {
    if (const Status sound = check(variant); !sound) return sound;
    if (!names.insert(variant.name).second) {
      return fail(Errc::invalid, fmt::format("the variant '{}' is named twice", variant.name));
    }
  }
  if (manifest.fallback &&
      (manifest.fallback->version == 0 || manifest.fallback->version == manifest.version)) {
    return fail(Errc::invalid, fmt::format("version {} falls back to version {}", manifest.version,
                                           manifest.fallback->version));
  }
  return {};
}

Status check(const CandidateManifest& manifest) {
  if (manifest.round == 0) return fail(Errc::invalid, "a candidate comes out of a round, but names none");
  if (manifest.parent == 0) return fail(Errc::invalid, "a candidate has a parent, but names none");
  if (manifest.snapshot_bytes == 0) return fail(Errc::invalid, "the snapshot has no bytes");
  return {};
}

Bytes encode(const VersionManifest& manifest) {
  using payload::data;
  capnp::MallocMessageBuilder message;
  auto out = message.initRoot<schema::VersionManifest>();
  out.setFleet(data(manifest.fleet));
  out.setManifestVersion(manifest.manifest_version);
  out.setVersion(manifest.version);
  out.setRelease(data(manifest.release));
  out.setReleaseContent(data(manifest.release_content));
  out.setParent(manifest.parent);
  out.setRound(manifest.round);
  out.setCreated(wire_form::milliseconds(manifest.created));
  out.setForm(static_cast<schema::SnapshotForm>(manifest.form));
  out.setSnapshot(data(manifest.snapshot));
  out.setSnapshotBytes(manifest.snapshot_bytes);
  out.setWeightsHash(data(manifest.weights_hash));
  auto variants = out.initVariants(static_cast<unsigned>(manifest.variants.size()));
  for (unsigned i = 0; i < variants.size(); ++i) {
    const VariantInfo& variant = manifest.variants[i];
    variants[i].setName(variant.name.c_str());
    variants[i].setContent(data(variant.content));
    variants[i].setBytes(variant.bytes);
    wire_form::write_list(variant.known_outputs,
                          variants[i].initKnownOutputs(static_cast<unsigned>(variant.known_outputs.size())));
    variants[i].setTolerance(variant.tolerance);
    variants[i].setAccuracy(variant.accuracy.value_or(0.0));
    variants[i].setHasAccuracy(variant.accuracy.has_value());
    if (variant.int8_kernels) write(*variant.int8_kernels, variants[i]);
    variants[i].setActivationBytes(variant.activation_bytes);
    variants[i].setMicroseconds(variant.microseconds);
    variants[i].setOwnRanges(variant.own_ranges);
  }
  if (manifest.fallback) {
    out.setFallbackVersion(manifest.fallback->version);
    out.setFallbackWeightsHash(data(manifest.fallback->weights_hash));
  }
  out.setEpoch(manifest.epoch);
  out.setAuditHead(data(manifest.audit_head));
  out.setReference(manifest.reference.c_str());
  return payload::to_bytes(message);
}

Bytes encode(const CandidateManifest& manifest) {
  using payload::data;
  capnp::MallocMessageBuilder message;
  auto out = message.initRoot<schema::CandidateManifest>();
  out.setFleet(data(manifest.fleet));
  out.setRound(manifest.round);
  out.setRelease(data(manifest.release));
  out.setReleaseContent(data(manifest.release_content));
  out.setParent(manifest.parent);
  out.setParentWeightsHash(data(manifest.parent_weights_hash));
  out.setForm(static_cast<schema::SnapshotForm>(manifest.form));
  out.setSnapshot(data(manifest.snapshot));
  out.setSnapshotBytes(manifest.snapshot_bytes);
  out.setWeightsHash(data(manifest.weights_hash));
  return payload::to_bytes(message);
}

Result<VersionManifest> decode_version(ByteSpan payload) {
  if (const Status size = wire_form::check_size(payload); !size)
    return fail_at("version manifest", size.error());
  auto manifest = payload::read<schema::VersionManifest>(payload, read_version);
  if (!manifest) return fail_at("version manifest", manifest.error());
  return manifest;
}

Result<CandidateManifest> decode_candidate(ByteSpan payload) {
  if (const Status size = wire_form::check_size(payload); !size)
    return fail_at("candidate manifest", size.error());
  auto manifest = payload::read<schema::CandidateManifest>(payload, read_candidate);
  if (!manifest) return fail_at("candidate manifest", manifest.error());
  return manifest;
}

}  // namespace rivulet
