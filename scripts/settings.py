"""Changes of a configuration that a program wrote, for scripts. Standard library only."""

import json
import pathlib


def set_keys(file, settings):
    """Sets keys in place: {section: {key: value}}; "" is the root table. Each must be there already."""
    file = pathlib.Path(file)
    section, lines = "", []
    left = {name: dict(keys) for name, keys in settings.items()}
    for line in file.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        key = line.split("=")[0].strip()
        if key in left.get(section, {}):
            line = f"{key} = {json.dumps(left[section].pop(key))}"
        lines.append(line)
    unknown = {name: keys for name, keys in left.items() if keys}
    if unknown:
        raise KeyError(f"{file} does not have {unknown}")
    file.write_text("\n".join(lines) + "\n")
