#include "protocol/trust.h"

#include "protocol/token.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

const UtcTime now = UtcTime(std::chrono::seconds(1'800'000'000));

TrustDocument document_by(const SecretKey& root, const SecretKey& coordinator, std::uint64_t version) {
  TrustDocument document;
  document.fleet.bytes[0] = std::byte{1};
  document.name = "river";
  document.version = version;
  document.created = now;
  document.expires = now + std::chrono::days(30);
  document.root = root.public_key();
  document.release_keys = {SecretKey::generate().public_key()};
  document.coordinator = coordinator.public_key();
  return document;
}

}  // namespace

TEST_CASE("a node follows its root's documents and nobody else's", "[protocol][trust]") {
  const SecretKey root = SecretKey::generate();
  const SecretKey coordinator = SecretKey::generate();
  const TrustDocument first = document_by(root, coordinator, 1);
  const TrustAnchor fresh{root.public_key(), std::nullopt};

  const auto followed = follow_trust(fresh, {sign_trust(first, root)}, now);
  REQUIRE(followed);
  CHECK(*followed == first);
  const TrustAnchor anchor{root.public_key(), first};

  SECTION("another root") {
    const SecretKey stranger = SecretKey::generate();
    const TrustDocument foreign = document_by(stranger, coordinator, 2);
    CHECK(follow_trust(fresh, {sign_trust(foreign, stranger)}, now).error().code == Errc::not_found);
    TrustDocument pretended = foreign;
    pretended.root = root.public_key();
    CHECK(follow_trust(fresh, {sign_trust(pretended, stranger)}, now).error().code == Errc::refused);
  }
  SECTION("expired") {
    CHECK(follow_trust(fresh, {sign_trust(first, root)}, first.expires).error().code == Errc::refused);
    CHECK(follow_trust(fresh, {sign_trust(first, root)}, first.expires - std::chrono::milliseconds(1)));
  }
  SECTION("rolled back") {
    const TrustDocument second = document_by(root, coordinator, 2);
    const auto status = follow_trust({root.public_key(), second}, {sign_trust(first, root)}, now);
    CHECK(status.error().code == Errc::refused);
    CHECK(status.error().detail.find("rolled back") != std::string::npos);
  }
  SECTION("the same version with other content") {
    TrustDocument other = first;
    other.name = "lake";
    CHECK(follow_trust(anchor, {sign_trust(other, root)}, now).error().code == Errc::refused);
    CHECK(follow_trust(anchor, {sign_trust(first, root)}, now));
  }
  SECTION("another fleet") {
    TrustDocument other = document_by(root, coordinator, 2);
    other.fleet.bytes[0] = std::byte{2};
    CHECK(follow_trust(anchor, {sign_trust(other, root)}, now).error().code == Errc::refused);
  }
  SECTION("changed content under a good signature") {
    SignedTrust trust = sign_trust(first, root);
    trust.payload.back() ^= std::byte{1};
    CHECK_FALSE(follow_trust(fresh, {trust}, now));
  }
}

TEST_CASE("a new root is followed when the old one signed it too, however long the node slept",
          "[protocol][trust]") {
  const SecretKey roots[] = {SecretKey::generate(), SecretKey::generate(), SecretKey::generate()};
  const SecretKey coordinator = SecretKey::generate();
  const TrustAnchor anchor{roots[0].public_key(), document_by(roots[0], coordinator, 1)};
  const TrustDocument second = document_by(roots[1], coordinator, 2);
  const TrustDocument third = document_by(roots[2], coordinator, 3);
  const SignedTrust to_second = sign_trust(second, roots[1], &roots[0]);
  const SignedTrust to_third = sign_trust(third, roots[2], &roots[1]);

  // The middle document may have expired in the meantime: only the last one must be in force.
  TrustDocument stale = second;
  stale.expires = now - std::chrono::days(1);
  CHECK(follow_trust(anchor, {sign_trust(stale, roots[1], &roots[0]), to_third}, now).value() == third);
  CHECK(follow_trust(anchor, {to_third}, now).error().code == Errc::not_found);
  CHECK(follow_trust(anchor, {sign_trust(second, roots[1])}, now).error().code == Errc::not_found);
  SignedTrust without_new = to_second;
  without_new.signatures.erase(without_new.signatures.begin());
  CHECK(follow_trust(anchor, {without_new}, now).error().code == Errc::refused);
}

TEST_CASE("a chain from the first document on serves a node wherever it stopped", "[protocol][trust]") {
  const SecretKey roots[] = {SecretKey::generate(), SecretKey::generate(), SecretKey::generate()};
  const SecretKey coordinator = SecretKey::generate();
  // Founded, renewed, rotated, renewed, rotated, renewed.
  const std::size_t root_of[] = {0, 0, 1, 1, 2, 2};
  std::vector<TrustDocument> documents;
  std::vector<SignedTrust> all;
  for (std::size_t i = 0; i < 6; ++i) {
    const bool rotates = i > 0 && root_of[i] != root_of[i - 1];
    documents.push_back(document_by(roots[root_of[i]], coordinator, i + 1));
    all.push_back(
        sign_trust(documents.back(), roots[root_of[i]], rotates ? &roots[root_of[i - 1]] : nullptr));
  }
  for (std::size_t known = 0; known < 6; ++known) {
    const PublicKey root = roots[root_of[known]].public_key();
    CAPTURE(known);
    CHECK(follow_trust({root, documents[known]}, all, now).value() == documents.back());
    CHECK(follow_trust({root, documents[known]}, trust_chain_from(all, known + 1), now).value() ==
          documents.back());
    CHECK(follow_trust({root, std::nullopt}, all, now).value() == documents.back());  // By a token.
    CHECK(follow_trust({root, std::nullopt}, trust_chain_from(all, 0), now).value() == documents.back());
  }
  CHECK(trust_chain_from(all, 0) == std::vector{all[2], all[4], all[5]});
  CHECK(trust_chain_from(all, 4) == std::vector{all[4], all[5]});
  CHECK(trust_chain_from({all[0]}, 1) == std::vector{all[0]});

  SECTION("and never leads back") {
    const TrustAnchor anchor{roots[2].public_key(), documents[5]};
    const std::vector<SignedTrust> older(all.begin(), all.end() - 1);
    CHECK(follow_trust(anchor, older, now).error().detail.find("rolled back") != std::string::npos);
  }
  SECTION("nor passes over a link without the signature of the root before it") {
    all[4] = sign_trust(documents[4], roots[2]);
    CHECK(follow_trust({roots[0].public_key(), documents[1]}, all, now).error().code == Errc::not_found);
  }
}

TEST_CASE("a token that was mistyped or cut short says so", "[protocol][token]") {
  JoinToken token;
  token.address = "127.0.0.1:7443";
  token.root = SecretKey::generate().public_key();
  token.secret.bytes[3] = std::byte{9};
  token.expires = now;
  const std::string text = to_text(token);
  CHECK(parse_token(text).value() == token);
  CHECK(parse_token(text + "\n").value() == token);
  for (std::size_t i = 8; i < text.size(); ++i) {
    std::string typo = text;
    typo[i] = typo[i] == 'A' ? 'B' : 'A';
    CHECK(parse_token(typo).error().code == Errc::invalid);
    CHECK(parse_token(text.substr(0, i)).error().code == Errc::invalid);
  }
  CHECK(parse_token("").error().code == Errc::invalid);
}
