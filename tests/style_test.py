"""Checks what a compiler can't: rules on the text of the sources, and the purity of what decides.

  style_test.py text                 the rules below on every source of the repository
  style_test.py symbols ARCHIVE...   nothing in these static libraries reaches for the outside world
"""

import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPPED_FOLDERS = {".git", "build", ".cache", "__pycache__"}
CPP = {".h", ".cpp"}
SOURCES = CPP | {".py", ".sh", ".cmake", ".capnp"}
LINES_MAX = 500


class TextRule(NamedTuple):
    name: str
    pattern: str
    applies: callable  # to a path from the root
    broken_by: str     # a line that the pattern must match: proves that the rule can fail


def in_core(path):
    return path.suffix in CPP and "core" in path.parts[:-1] and path.parts[0] != "tests"


def in_tests(path):
    return path.suffix in CPP and path.parts[0] == "tests"


def away_from_torch(path):
    at_home = {("models", "runtime"), ("tests", "models_runtime"), ("tests", "models_quantization"),
               ("bench", "training_bench.cpp"), ("bench", "inference_bench.cpp")}
    return path.suffix in CPP and path.parts[:2] not in at_home


TEXT_RULES = [
    TextRule("work left undone", r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", lambda path: path.suffix in SOURCES,
             "// TO" "DO: later"),
    TextRule("a detached task has no owner: use a task group", r"\basio::detached\b|[(,]\s*detached\s*\)",
             lambda path: path.suffix in CPP, "co_spawn(io, run(), detached);"),
    TextRule("LibTorch belongs to models/runtime", r"#\s*include\s*[<\"](torch|ATen|c10|caffe2)/",
             away_from_torch, "#include <torch/torch.h>"),
    TextRule("tests wait for events, never for time", r"\b(sleep_for|this_thread::sleep_until|usleep|nanosleep)\s*\(",
             in_tests,
             "std::this_thread::sleep_for(10ms);"),
    TextRule("decisions get the time as an argument", r"_clock::now\b|\bclock_gettime\b|\bgettimeofday\b|\bstd::time\(",
             in_core, "const auto start = std::chrono::steady_clock::now();"),
    TextRule("decisions get their randomness as an argument",
             r"\brandom_device\b|\brandombytes_|\bgetrandom\b|\bRAND_bytes\b|SecretKey::generate\b", in_core,
             "std::random_device device;"),
    TextRule("decisions know no device", r"#\s*include\s*[<\"](asio|rocksdb|httplib|openssl|fstream|filesystem|thread)\b",
             in_core, "#include <asio/steady_timer.hpp>"),
]

class SymbolRule(NamedTuple):
    name: str
    pattern: str
    broken_by: list  # symbols that the pattern must match


# What no undefined symbol of a core library may match.
SYMBOL_RULES = [
    SymbolRule("Asio", r"\basio::", ["asio::detail::throw_error(std::error_code const&)"]),
    SymbolRule("RocksDB", r"\brocksdb::", ["rocksdb::DB::Open(rocksdb::Options const&)"]),
    SymbolRule("LibTorch", r"\b(torch|at|c10|caffe2)::", ["c10::Error::what() const", "torch::jit::load()"]),
    SymbolRule("a clock", r"_clock::now\(|^(clock_gettime|gettimeofday|time)$",
               ["std::chrono::_V2::steady_clock::now()", "clock_gettime", "time"]),
    SymbolRule("waiting", r"^(nanosleep|clock_nanosleep|usleep|sleep)$", ["clock_nanosleep"]),
    SymbolRule("randomness",
               r"\brandom_device\b|SecretKey::generate|^randombytes|^(getrandom|getentropy|rand|random|RAND_bytes)$",
               ["std::random_device::_M_getval()", "rivulet::SecretKey::generate()", "randombytes_buf", "getrandom"]),
    SymbolRule("files", r"^(open|open64|openat|creat|fopen|fopen64|mmap|unlink|rename)$|basic_filebuf|\bfilesystem::\w+\(",
               ["std::filesystem::remove(std::filesystem::__cxx11::path const&)", "open64",
                "std::basic_filebuf<char, std::char_traits<char> >::close()"]),
    SymbolRule("the network", r"^(socket|connect|accept4?|bind|listen|recv|recvfrom|send|sendto|getaddrinfo)$", ["socket"]),
]


def prove_that_rules_can_fail():
    for rule in TEXT_RULES:
        assert re.search(rule.pattern, rule.broken_by), f"the rule '{rule.name}' misses: {rule.broken_by}"
    for rule in SYMBOL_RULES:
        for symbol in rule.broken_by:
            assert re.search(rule.pattern, symbol), f"the rule on {rule.name} misses: {symbol}"


def sources():
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if path.suffix in SOURCES and path.is_file() and not SKIPPED_FOLDERS & set(relative.parts):
            yield relative


def faults_of_text(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    if len(lines) > LINES_MAX:
        yield f"{path}: {len(lines)} lines; split it, {LINES_MAX} is the most"
    if path.suffix == ".h" and "#pragma once" not in lines:
        yield f"{path}: no #pragma once"
    for number, line in enumerate(lines, 1):
        if line != line.rstrip() or "\t" in line:
            yield f"{path}:{number}: a tab, or space at the line's end"
        for rule in TEXT_RULES:
            # The rules' own examples, here, are the one place that may name what they forbid.
            if rule.applies(path) and path.name != "style_test.py" and re.search(rule.pattern, line):
                yield f"{path}:{number}: {rule.name}: {line.strip()}"


def faults_of_symbols(archive):
    if not pathlib.Path(archive).exists():
        yield f"{archive}: not there; build all first"
        return
    listed = subprocess.run(["nm", "--undefined-only", "--demangle", archive], capture_output=True, text=True, check=True)
    symbols = {line.split(" U ", 1)[1].strip() for line in listed.stdout.splitlines() if " U " in line}
    if not symbols:
        yield f"{archive}: nm lists no undefined symbol at all, so this looked at nothing"
    for symbol in sorted(symbols):
        bare = symbol.split("@")[0]
        for rule in SYMBOL_RULES:
            if re.search(rule.pattern, bare):
                yield f"{pathlib.Path(archive).name}: what decides must not reach for {rule.name}: {symbol}"


def main(arguments):
    prove_that_rules_can_fail()
    if arguments[:1] == ["text"]:
        looked_at = list(sources())
        faults = [fault for path in looked_at for fault in faults_of_text(path)]
    elif arguments[:1] == ["symbols"] and len(arguments) > 1:
        looked_at = arguments[1:]
        faults = [fault for archive in looked_at for fault in faults_of_symbols(archive)]
    else:
        print(__doc__, file=sys.stderr)
        return 2
    print("\n".join(dict.fromkeys(faults)))
    print(f"{len(looked_at)} looked at, {len(faults)} faults")
    return 1 if faults or not looked_at else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
