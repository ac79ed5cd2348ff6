#include "config/toml_reader.h"

#include <spdlog/fmt/fmt.h>
#include <toml++/toml.h>

#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

#include "protocol/assert.h"
#include "protocol/now.h"

namespace rivulet {
namespace {

constexpr std::uintmax_t file_bytes_max = 1 << 20;

/// What a value is, in the words of the TOML specification.
const char* kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "an array";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a float";
    case toml::node_type::boolean: return "a boolean";
    default: return "a date or time";
  }
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string bounds(const std::string& min, const std::string& max, bool has_min, bool has_max) {
  if (has_min && has_max) return fmt::format("must be from {} to {}", min, max);
  return has_min ? fmt::format("must be at least {}", min) : fmt::format("must be at most {}", max);
}

std::optional<std::string> why_not(std::int64_t value, std::int64_t min, std::int64_t max) {
  if (value >= min && value <= max) return std::nullopt;
  return fmt::format("is {}; it {}", value,
                     bounds(std::to_string(min), std::to_string(max), true, max != TomlReader::integer_max));
}

std::optional<std::string> why_not(double value, double min, double max) {
  if (std::isfinite(value) && value >= min && value <= max) return std::nullopt;
  if (!std::isfinite(value)) return "must be a finite number";
  return fmt::format("is {}; it {}", value,
                     bounds(fmt::format("{}", min), fmt::format("{}", max), min != -TomlReader::number_max,
                            max != TomlReader::number_max));
}

std::optional<double> as_number(const toml::node& node) {
  if (const auto* whole = node.as_integer()) return static_cast<double>(whole->get());
  if (const auto* real = node.as_floating_point()) return real->get();
  return std::nullopt;
}

}  // namespace

struct TomlReader::Document {
  struct Section {
    const toml::table* table = nullptr;  // null: absent
    std::string prefix;                  // "round." or empty
    std::set<std::string, std::less<>> consumed{};
  };

  toml::table root;
  std::filesystem::path source;
  std::vector<Section> sections;
  std::optional<Error> wrong;
  std::optional<Error> missing;

  [[nodiscard]] const toml::node* node(std::size_t section, std::string_view key) const {
    const toml::table* table = sections[section].table;
    return table == nullptr ? nullptr : table->get(key);
  }

  const toml::node* take(std::size_t section, std::string_view key) {
    sections[section].consumed.emplace(key);
    return node(section, key);
  }

  [[nodiscard]] std::string where(const toml::node* at, const std::string& key) const {
    const auto line = at == nullptr ? 0U : at->source().begin.line;
    // A value from set() has no line.
    if (line == 0) return fmt::format("{}: {}", source.string(), key);
    return fmt::format("{}:{}: {}", source.string(), line, key);
  }

  void reject(std::size_t section, std::string_view key, const std::string& why) {
    if (wrong) return;
    const std::string name = sections[section].prefix + std::string(key);
    wrong = Error{Errc::invalid, where(node(section, key), name) + " " + why};
  }

  void wrong_type(std::size_t section, std::string_view key, const toml::node& found, const char* wanted) {
    reject(section, key, fmt::format("must be {}, not {}", wanted, kind_of(found)));
  }

  std::size_t add(const toml::table* table, std::string prefix) {
    sections.push_back({table, std::move(prefix)});
    return sections.size() - 1;
  }

  /// Each element through `read`, which gives nothing for a wrong type.
  template <typename T, typename Read>
  std::vector<T> list(std::size_t section, std::string_view key, std::vector<T> otherwise, const char* wanted,
                      Read read) {
    const toml::node* found = take(section, key);
    if (found == nullptr) return otherwise;
    const toml::array* array = found->as_array();
    if (array == nullptr) {
      wrong_type(section, key, *found, wanted);
      return otherwise;
    }
    std::vector<T> values;
    for (const toml::node& element : *array) {
      std::optional<T> value = read(element);
      if (!value) {
        reject(section, key,
               fmt::format("must be {}; its element {} is {}", wanted, values.size() + 1, kind_of(element)));
        return otherwise;
      }
      values.push_back(std::move(*value));
    }
    return values;
  }
};

TomlReader::TomlReader(std::shared_ptr<Document> document, std::size_t section)
    : document_(std::move(document)), section_(section) {}

Result<TomlReader> TomlReader::parse(std::string_view text, const std::filesystem::path& source) {
  auto document = std::make_shared<Document>();
  document->source = source;
  try {
    document->root = toml::parse(text, source.string());
  } catch (const toml::parse_error& error) {
    const auto at = error.source().begin;
    return fail(Errc::invalid, fmt::format("{}:{}:{}: not TOML: {}", source.string(), at.line, at.column,
                                           error.description()));
  }
  document->add(&document->root, "");
  return TomlReader(std::move(document), 0);
}

Result<TomlReader> TomlReader::read_file(const std::filesystem::path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error == std::errc::no_such_file_or_directory) {
    return fail(Errc::not_found, fmt::format("{}: there is no such file", file.string()));
  }
  if (error) return fail(Errc::storage, fmt::format("{}: {}", file.string(), error.message()));
  if (size > file_bytes_max) {
    return fail(Errc::too_large, fmt::format("{}: {} bytes; a configuration has at most {}", file.string(),
                                             size, file_bytes_max));
  }
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (!stream || (size > 0 && !(text << stream.rdbuf()))) {
    return fail(Errc::storage, fmt::format("{}: cannot be read", file.string()));
  }
  return parse(text.str(), file);
}

Status TomlReader::set(std::string_view dotted_key, std::string_view value) {
  const auto bad = [&](const std::string& why) {
    return fail(Errc::invalid, fmt::format("{}={}: {}", dotted_key, value, why));
  };
  RIVULET_ASSERT(document_->sections.size() == 1);  // Sections point into what is changed here.
  toml::table* table = &document_->root;
  std::string_view rest = dotted_key;
  for (auto dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
    const std::string_view name = rest.substr(0, dot);
    if (name.empty()) return bad("a part of the key is empty");
    toml::node* child = table->get(name);
    if (child == nullptr) child = &table->insert(name, toml::table{}).first->second;
    if (!child->is_table()) return bad(fmt::format("'{}' is not a section", name));
    table = child->as_table();
    rest.remove_prefix(dot + 1);
  }
  if (rest.empty()) return bad("a part of the key is empty");
  try {
    const toml::table parsed = toml::parse(fmt::format("value = {}", value));
    if (parsed.size() == 1) {
      parsed.get("value")->visit([&](const auto& typed) { table->insert_or_assign(rest, typed); });
      return {};
    }
  } catch (const toml::parse_error&) {
    // Not TOML, so it is text.
  }
  table->insert_or_assign(rest, std::string(value));
  return {};
}

TomlReader TomlReader::table(std::string_view key) {
  const toml::node* found = document_->take(section_, key);
  const std::string prefix = fmt::format("{}{}.", document_->sections[section_].prefix, key);
  if (found != nullptr && !found->is_table()) document_->wrong_type(section_, key, *found, "a table");
  return {document_, document_->add(found == nullptr ? nullptr : found->as_table(), prefix)};
}

std::vector<TomlReader> TomlReader::tables(std::string_view key) {
  const toml::node* found = document_->take(section_, key);
  if (found == nullptr) return {};
  const toml::array* array = found->as_array();
  if (array == nullptr) {
    document_->wrong_type(section_, key, *found, "an array of tables");
    return {};
  }
  std::vector<TomlReader> readers;
  for (const toml::node& element : *array) {
    if (!element.is_table()) {
      document_->wrong_type(section_, key, element, "an array of tables");
      return {};
    }
    std::string prefix = fmt::format("{}{}[{}].", document_->sections[section_].prefix, key, readers.size());
    readers.push_back(TomlReader(document_, document_->add(element.as_table(), std::move(prefix))));
  }
  return readers;
}

bool TomlReader::has(std::string_view key) const { return document_->node(section_, key) != nullptr; }

bool TomlReader::flag(std::string_view key, bool otherwise) {
  const toml::node* found = document_->take(section_, key);
  if (found == nullptr) return otherwise;
  if (const auto* value = found->as_boolean()) return value->get();
  document_->wrong_type(section_, key, *found, "true or false");
  return otherwise;
}

std::int64_t TomlReader::integer(std::string_view key, std::int64_t otherwise, std::int64_t min,
                                 std::int64_t max) {
  const toml::node* found = document_->take(section_, key);
  if (found == nullptr) return otherwise;
  const auto* value = found->as_integer();
  if (value == nullptr) {
    document_->wrong_type(section_, key, *found, "an integer");
    return otherwise;
  }
  const auto why = why_not(value->get(), min, max);
  if (why) document_->reject(section_, key, *why);
  return why ? otherwise : value->get();
}

double TomlReader::number(std::string_view key, double otherwise, double min, double max) {
  const toml::node* found = document_->take(section_, key);
  if (found == nullptr) return otherwise;
  const auto value = as_number(*found);
  if (!value) {
    document_->wrong_type(section_, key, *found, "a number");
    return otherwise;
  }
  const auto why = why_not(*value, min, max);
  if (why) document_->reject(section_, key, *why);
  return why ? otherwise : *value;
}

std::string TomlReader::text(std::string_view key, std::string_view otherwise) {
  const toml::node* found = document_->take(section_, key);
  if (found == nullptr) return std::string(otherwise);
  if (const auto* value = found->as_string()) return value->get();
  document_->wrong_type(section_, key, *found, "a string");
  return std::string(otherwise);
}

std::string TomlReader::choice(std::string_view key, std::string_view otherwise,
                               const std::vector<std::string>& allowed) {
  std::string value = text(key, otherwise);
  for (const std::string& word : allowed) {
    if (value == word) return value;
  }
  reject(key, fmt::format("is '{}'; it must be one of: {}", value, join(allowed)));
  return std::string(otherwise);
}

std::chrono::seconds TomlReader::duration(std::string_view key, std::chrono::seconds otherwise,
                                          std::chrono::seconds min) {
  const toml::node* found = document_->take(section_, key);
  if (found == nullptr) return otherwise;
  const auto* value = found->as_string();
  if (value == nullptr) {
    document_->wrong_type(section_, key, *found, "a string like \"90s\", \"15m\", \"12h\" or \"30d\"");
    return otherwise;
  }
  const auto parsed = parse_duration(value->get());
  if (!parsed) {
    document_->reject(section_, key, "is wrong: " + parsed.error().detail);
    return otherwise;
  }
  if (*parsed >= min) return *parsed;
  document_->reject(section_, key, fmt::format("is {}; it must be at least {}s", value->get(), min.count()));
  return otherwise;
}

std::filesystem::path TomlReader::path(std::string_view key, const std::filesystem::path& otherwise) {
  const std::filesystem::path value = text(key, otherwise.string());
  if (value.empty() && has(key)) reject(key, "must not be empty");
  if (value.empty() || value.is_absolute()) return value;
  return document_->source.parent_path() / value;
}

std::vector<std::int64_t> TomlReader::integers(std::string_view key, std::vector<std::int64_t> otherwise,
                                               std::int64_t min, std::int64_t max) {
  auto values = document_->list<std::int64_t>(
      section_, key, std::move(otherwise), "an array of integers", [](const toml::node& element) {
        const auto* value = element.as_integer();
        return value == nullptr ? std::nullopt : std::optional(value->get());
      });
  for (const std::int64_t value : values) {
    if (const auto why = why_not(value, min, max)) reject(key, "has an element that " + *why);
  }
  return values;
}

std::vector<double> TomlReader::numbers(std::string_view key, std::vector<double> otherwise, double min,
                                        double max) {
  auto values =
      document_->list<double>(section_, key, std::move(otherwise), "an array of numbers", as_number);
  for (const double value : values) {
    if (const auto why = why_not(value, min, max)) reject(key, "has an element that " + *why);
  }
  return values;
}

std::vector<std::string> TomlReader::texts(std::string_view key, std::vector<std::string> otherwise) {
  return document_->list<std::string>(section_, key, std::move(otherwise), "an array of strings",
                                      [](const toml::node& element) {
                                        const auto* value = element.as_string();
                                        return value == nullptr ? std::nullopt : std::optional(value->get());
                                      });
}

bool TomlReader::require(std::string_view key) {
  if (has(key)) return true;
  if (!document_->missing) {
    const auto& section = document_->sections[section_];
    document_->missing = Error{
        Errc::invalid, fmt::format("{}: {}{} is missing", document_->source.string(), section.prefix, key)};
  }
  return false;
}

void TomlReader::reject(std::string_view key, const std::string& why) {
  document_->reject(section_, key, why);
}

Status TomlReader::finish() const {
  if (document_->wrong) return std::unexpected(*document_->wrong);
  for (const auto& section : document_->sections) {
    if (section.table == nullptr) continue;
    for (const auto& [key, node] : *section.table) {
      // The same table may have been asked for twice, so another section can have read the key.
      bool consumed = false;
      for (const auto& other : document_->sections) {
        consumed = consumed || (other.table == section.table && other.consumed.contains(key.str()));
      }
      if (consumed) continue;
      return fail(Errc::invalid, document_->where(&node, section.prefix + std::string(key.str())) +
                                     " is not a key that is known here: check its spelling and section");
    }
  }
  if (document_->missing) return std::unexpected(*document_->missing);
  return {};
}

std::string TomlReader::where(std::string_view key) const {
  return document_->where(document_->node(section_, key),
                          document_->sections[section_].prefix + std::string(key));
}

}  // namespace rivulet
