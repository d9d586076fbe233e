"""Results as Markdown."""


def speed(whole):
    lines = []
    for model in whole["models"]:
        machine = model["machine"]
        lines.append(f"### {model['model'].rsplit('/', 1)[-1]}")
        lines.append("")
        if model["results"]:
            lines += table(model["results"])
        if "load" in model:
            lines += loads(model["load"])
        if machine:
            lines.append(
                f"{machine['cpu_info']}, {machine['cores']} cores, {machine['system']}, "
                f"{machine['isa']}; {machine['model_size']} bytes, "
                f"{machine['model_hash_kind']} {machine['model_hash']}"
            )
            lines.append("")
    about = whole["llama_cpp"]
    commit = next((m["machine"].get("build_commit") for m in whole["models"] if m["machine"]), None)
    lines.append(
        f"{whole['threads']} threads, medians of {whole['rounds']} rounds in turn; "
        f"tidemill {commit or 'of this tree'}, llama-cpp-python {about['version']} ({about['system'].strip()})"
    )
    return "\n".join(lines)


def table(results):
    lines = [
        "| test | tidemill | llama.cpp | ratio | of rounds | of read bandwidth | llama.cpp's setting |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for result in results:
        limit = ""
        if "bandwidth_fraction" in result:
            bandwidth = result["read_bandwidth"] / 1e9
            ours, theirs = result["bandwidth_fraction"], result["theirs_bandwidth_fraction"]
            limit = f"{ours:.0%} (theirs {theirs:.0%}) of {bandwidth:.1f} GB/s"
        elif "macs_per_second" in result:
            limit = f"{result['macs_per_second'] / 1e9:.0f} GMAC/s"
        spread = f"{result['ratio_min']:.2f} to {result['ratio_max']:.2f}"
        lines.append(
            f"| {result['test']} | {result['ours']:.2f} | {result['theirs']:.2f} "
            f"| {result['ratio']:.2f} | {spread} | {limit} | {result['setting']} |"
        )
    return lines + [""]


def loads(found):
    lines = ["| load to first token, warm file | ms |", "|---|---:|"]
    lines += [f"| {side} | {times['median_ms']:.0f} |" for side, times in found.items()]
    return lines + [""]


def quality(found):
    lines = [
        f"KL divergence to f32, {found['tokens']} tokens of {found['prompts']} prompts, x 10^-6",
        "",
        "| type | engine alone: tidemill | llama.cpp | difference | with quantisation: tidemill | llama.cpp | difference | same top token: tidemill | llama.cpp |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["types"]:
        cells = [row["type"]]
        for against in ("same_file", "unquantised"):
            cells += [f"{row[against][side]['mean'] * 1e6:.1f}" for side in ("ours", "theirs")]
            apart = row[against]["difference"]
            cells.append(f"{apart['mean'] * 1e6:.1f} ± {apart['error'] * 1e6:.1f}")
        cells += [f"{row['same_file'][side]['same_top']:.4%}" for side in ("ours", "theirs")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
