#include <cmath>
#include <cstdlib>
#include <limits>

#include "models/dataset/csv.h"
#include "models/dataset/dataset.h"
#include "protocol/rng.h"
#include "tests/catch.h"
#include "tests/models/gzip.h"

using namespace rivulet;

namespace {

Result<std::unique_ptr<SampleReader>> open(ByteSpan bytes, const SampleOptions& options = {}) {
  return make_csv_reader(make_memory_source(bytes), "a.csv", options);
}

/// One line of text for each entry: "1: 5 6 label=x" or what RefusedSample::describe says.
std::vector<std::string> entries(std::string_view text, const SampleOptions& options = {}) {
  auto reader = open(bytes_of(text), options);
  REQUIRE(reader.has_value());
  std::vector<std::string> out;
  while (true) {
    const auto entry = (*reader)->next();
    REQUIRE(entry.has_value());
    if (!*entry) return out;
    if (const auto* refused = std::get_if<RefusedSample>(&**entry)) {
      out.push_back(refused->describe());
      continue;
    }
    const auto& sample = std::get<RawSample>(**entry);
    std::string line = std::to_string(sample.position) + ":";
    for (const float value : sample.inputs) line += " " + std::to_string(value).substr(0, 4);
    if (sample.label) line += " label=" + *sample.label;
    if (sample.group) line += " group=" + *sample.group;
    out.push_back(line);
  }
}

SampleOptions label(std::string column) {
  SampleOptions options;
  options.label = std::move(column);
  return options;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("a first line that is not numeric is a header", "[models][csv]") {
  CHECK(entries("a,b\n1,2\n3,4\n") == Lines{"2: 1.00 2.00", "3: 3.00 4.00"});
  CHECK(entries("1,2\n3,4\n") == Lines{"1: 1.00 2.00", "2: 3.00 4.00"});
  CHECK(entries("\xef\xbb\xbf"
                "1,2\n") == Lines{"1: 1.00 2.00"});
  CHECK(entries("a,b\n").empty());
  CHECK(entries("").empty());
}

TEST_CASE("the label is found by name or by index from 1", "[models][csv]") {
  CHECK(entries("a,kind,b\n1,x,2\n", label("kind")) == Lines{"2: 1.00 2.00 label=x"});
  CHECK(entries("a,kind,b\n1,x,2\n", label("2")) == Lines{"2: 1.00 2.00 label=x"});
  CHECK(entries("1,7,2\n", label("2")) == Lines{"1: 1.00 2.00 label=7"});
  CHECK(entries("1,x,2\n", label("2")) == Lines{"1: 1.00 2.00 label=x"});  // Only inputs make a header.
  CHECK(entries("1,2,kind\n5,6,y\n", label("kind")) == Lines{"2: 5.00 6.00 label=y"});
  CHECK(entries("3,1,2\n", label("2")) == Lines{"1: 3.00 2.00 label=1"});  // Numbers are no names.
  CHECK(entries("a,2,b\n5,6,7\n", label("2")) == Lines{"2: 5.00 7.00 label=6"});
  CHECK(entries("a,b,2\n5,6,7\n", label("2")) == Lines{"2: 5.00 6.00 label=7"});
  CHECK(entries("a,7\n5,6\n", label("7")) == Lines{"2: 5.00 label=6"});
  CHECK(entries("a,k\n1,\n2,y\n", label("k")) == Lines{"2: 1.00", "3: 2.00 label=y"});  // Not labelled yet.
}

TEST_CASE("groups and columns to ignore are no inputs", "[models][csv]") {
  SampleOptions options = label("activity");
  options.group = "subject";
  options.ignore = {"split", "1"};
  CHECK(entries("window,subject,activity,split,f\n0,p1,5,train,0.5\n1,p2,6,test,0.75\n", options) ==
        Lines{"2: 0.50 label=5 group=p1", "3: 0.75 label=6 group=p2"});
}

TEST_CASE("a column that is not there, twice there or used twice is an error", "[models][csv]") {
  const auto problem = [](std::string_view text, const SampleOptions& options) {
    const auto reader = open(bytes_of(text), options);
    REQUIRE_FALSE(reader.has_value());
    CHECK(reader.error().code == Errc::invalid);
    return reader.error().detail;
  };
  CHECK(problem("a,b\n1,2\n", label("c")) == "a.csv: there is no column 'c' for the label among its 2");
  CHECK(problem("1,2\n", label("label")) == "a.csv: there is no column 'label' for the label among its 2");
  CHECK(problem("a,b\n", label("3")) == "a.csv: there is no column '3' for the label among its 2");
  CHECK(problem("a,b\n", label("0")) == "a.csv: there is no column '0' for the label among its 2");
  CHECK(problem("a,c,c\n", label("c")) == "a.csv: 2 columns are named 'c'");
  SampleOptions twice = label("a");
  twice.group = "1";
  CHECK(problem("a,b\n", twice) == "a.csv: column 'a' is named for two purposes");
}

TEST_CASE("CRLF, quotes, blanks and empty lines are read as people mean them", "[models][csv]") {
  CHECK(entries("a,b\r\n1,2\r\n\r\n3,4\r\n\r\n") == Lines{"2: 1.00 2.00", "4: 3.00 4.00"});
  CHECK(entries("\"a\",\"the, label\"\n\"1\",\"x \"\"y\"\"\"\n", label("the, label")) ==
        Lines{"2: 1.00 label=x \"y\""});
  CHECK(entries("1 ,\t2\n+3,-4.5e0") == Lines{"1: 1.00 2.00", "2: 3.00 -4.5"});
}

TEST_CASE("a bad line costs that line only, and says which column", "[models][csv]") {
  CHECK(entries("a,b\n1,2\n1,x\n1,2,3\n1\n,2\n1,nan\n1e39,2\n\"1,2\n\"1\"2,3\n5,6\n") ==
        Lines{"2: 1.00 2.00", "line 3, column 2: 'x' is not a number", "line 4: 3 cells instead of 2",
              "line 5: 1 cells instead of 2", "line 6, column 1: the cell is empty",
              "line 7, column 2: 'nan' is not a finite float32",
              "line 8, column 1: '1e39' is not a finite float32",
              "line 9, column 1: the quote is not closed in this line",
              "line 10, column 1: text follows a closing quote", "11: 5.00 6.00"});
  CHECK(entries("1,2\n\x1b[31m,3\n").back() == "line 2, column 1: '?[31m' is not a number");
}

TEST_CASE("a line without end is refused and not kept", "[models][csv]") {
  std::string text = "1,2\n";
  text += std::string(5 << 20, '7');
  text += "\n3,4\n";
  text += std::string(csv_line_bytes_max + 1, '8');
  CHECK(entries(text) == Lines{"1: 1.00 2.00", "line 2: the line is longer than 1048576 bytes",
                               "3: 3.00 4.00", "line 4: the line is longer than 1048576 bytes"});
}

TEST_CASE("numbers are rounded to float32 as strtof does", "[models][csv]") {
  for (const char* text :
       {"0.1", "1e-45", "16777217", "3.4028234e38", "-0", "1.17549435e-38", "123456.789", ".5", "5."}) {
    CAPTURE(text);
    CHECK(parse_float(text) == std::strtof(text, nullptr));
  }
  for (const char* text :
       {"", " ", "x", "1x", "--1", "+-1", "++1", "0x10", "1,5", "inf", "-inf", "nan", "1e400", "e5"}) {
    CAPTURE(text);
    CHECK(parse_float(text).error().code == Errc::invalid);
  }
}

TEST_CASE("gzip is unpacked by content, several members as one", "[models][gzip]") {
  Bytes packed = gzip(bytes_of("1,2\n3,"));
  const Bytes second = gzip(bytes_of("4\n"));
  packed.insert(packed.end(), second.begin(), second.end());
  CHECK(entries(text_of(packed)) == Lines{"1: 1.00 2.00", "2: 3.00 4.00"});
  CHECK(entries(text_of(gzip({}))).empty());
}

TEST_CASE("damaged gzip data ends in an error, wherever the damage is", "[models][gzip]") {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += std::to_string(i * 7919 % 10007) + ",2\n";
  const Bytes good = gzip(bytes_of(text));
  const auto outcome = [](const Bytes& bytes) -> Errc {
    auto reader = open(bytes);
    if (!reader) return reader.error().code;
    while (true) {
      const auto entry = (*reader)->next();
      if (!entry) return entry.error().code;
      if (!*entry) return Errc::internal;  // It came to its end.
    }
  };
  CHECK(outcome(good) == Errc::internal);
  Rng rng(1);
  for (int i = 0; i < 60; ++i) {
    Bytes cut = good;
    cut.resize(2 + uniform_below(rng, good.size() - 2));
    CAPTURE(cut.size());
    CHECK(outcome(cut) == Errc::corrupt);
  }
  Bytes flipped = good;
  flipped[flipped.size() / 2] ^= std::byte{0x40};
  CHECK(outcome(flipped) == Errc::corrupt);
  Bytes wrong_crc = good;
  wrong_crc[good.size() - 8] ^= std::byte{1};
  CHECK(outcome(wrong_crc) == Errc::corrupt);
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK(outcome(longer) == Errc::corrupt);
}

TEST_CASE("arbitrary bytes are read to the end", "[models][csv]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 40));
  CAPTURE(seed);
  Rng rng(seed);
  const std::string alphabet("0123456789.,,,,\n\n\r\"\"ex-+ \0\xff", 27);
  std::string text;
  for (int i = 0; i < 3000; ++i) text += alphabet[uniform_below(rng, alphabet.size())];
  auto reader = open(bytes_of(text));
  if (!reader) return;
  while (true) {
    const auto entry = (*reader)->next();
    REQUIRE(entry.has_value());
    if (!*entry) break;
    if (const auto* sample = std::get_if<RawSample>(&**entry)) {
      REQUIRE(sample->inputs.size() == static_cast<std::size_t>((*reader)->shape().at(0)));
    }
  }
}
