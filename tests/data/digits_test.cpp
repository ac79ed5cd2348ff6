#include "data/digits/digits.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <string>

#include "protocol/sha256.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

std::string inflated(ByteSpan gzip) {
  std::string text(1 << 20, '\0');
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK);  // 16: a gzip header
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(gzip.data()));
  stream.avail_in = static_cast<uInt>(gzip.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  REQUIRE(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  text.resize(stream.total_out);
  inflateEnd(&stream);
  return text;
}

std::vector<int> numbers_of(const std::string& line) {
  std::vector<int> numbers;
  std::istringstream fields(line);
  for (std::string field; std::getline(fields, field, ',');) {
    int number = -1;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), number);
    if (error != std::errc{} || end != field.data() + field.size()) FAIL("not a number: " << field);
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

TEST_CASE("the embedded digits are the file that scikit-learn distributes", "[data][digits]") {
  CHECK(digits_csv_gz().size() == 57512);
  CHECK(sha256(digits_csv_gz()).hex() == "46abec6b12486ad9e51943373abcf22bbea1b5a51a1619b361570d8893f1464a");
}

TEST_CASE("the embedded digits have the shape and the class counts that UCI states", "[data][digits]") {
  const std::array<int, 10> counts_of_uci{178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
  std::array<int, 10> counts{};
  std::istringstream lines(inflated(digits_csv_gz()));
  for (std::string line; std::getline(lines, line);) {
    const std::vector<int> numbers = numbers_of(line);
    REQUIRE(numbers.size() == 65);
    const auto is_pixel = [](int number) { return 0 <= number && number <= 16; };
    REQUIRE(std::all_of(numbers.begin(), numbers.end() - 1, is_pixel));
    ++counts.at(static_cast<std::size_t>(numbers[64]));
  }
  CHECK(counts == counts_of_uci);
}
