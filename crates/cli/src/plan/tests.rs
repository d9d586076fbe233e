//! Plans for machines that people have, with the arithmetic beside them, and what must be true of all plans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine::KvTypes;
use engine::plan::{
    Anatomy, Block, Device, Host, Limit, Machine, Piece, Plan, Wish, decode, factors, plan,
    prefill, streams_from,
};
use formats::DType;
use proptest::prelude::*;

use super::gpus;
use super::mixes::{MIXES, Quantised, Stored};
use super::report::Report;
use super::source::{Subject, of_mix};
use super::table;
use crate::export::layout::slots;
use crate::export::{Extras, Mix};
use crate::synth::presets;

/// A desktop: two channels of DDR5, eight cores with AVX-512 at 4.5 GHz.
fn desktop(ram_gib: u64) -> Host {
    Host {
        name: "8 cores".to_owned(),
        threads: 8,
        total: ram_gib << 30,
        free: ram_gib << 30,
        bandwidth: 80e9,
        macs: 8.0 * 4.5e9 * 64.0,
    }
}

fn machine(gpus: &[&str], host: Host) -> Machine {
    let gpu = |name: &&str| gpus::find(name).unwrap().gpu(name);
    Machine {
        gpus: gpus.iter().map(gpu).collect(),
        host,
    }
}

fn subject(name: &str, mix: Mix) -> Subject {
    Subject::of_preset(presets::find(name).unwrap(), mix).unwrap()
}

/// The 8-layer model of `docs/performance.md`.
fn eight_layers(mix: Mix) -> Anatomy {
    let config = presets::find("35b-a3b").unwrap().config(8, true);
    of_mix(&config, mix, false).unwrap()
}

/// Compares a plan's tables with those that are kept; `TIDEMILL_UPDATE=1` keeps new ones.
fn check(name: &str, subject: &Subject, machine: &Machine) -> Plan {
    let wish = Wish::default();
    let found = plan(&subject.anatomy, machine, &wish).unwrap();
    let report = Report::new(subject, machine, &wish, &found, Vec::new());
    let text = table::text(&report) + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/plan/expected")
        .join(format!("{name}.md"));
    if std::env::var_os("TIDEMILL_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text,
        kept,
        "{}; TIDEMILL_UPDATE=1 keeps the new one",
        path.display()
    );
    found
}

#[test]
fn rtx_5080_with_64_gib() {
    let machine = machine(&["5080"], desktop(64));
    let model = subject("35b-a3b", Mix::Q4_K_M);
    let found = check("5080-q4_k_m", &model, &machine);
    by_hand(&model, &machine, &found);
    let model = subject("35b-a3b", Mix::Q8_0);
    let found = check("5080-q8_0", &model, &machine);
    by_hand(&model, &machine, &found);
}

#[test]
fn rtx_3090_and_4090_with_64_gib() {
    let model = subject("35b-a3b", Mix::MXFP4_MOE);
    for name in ["3090", "4090"] {
        let machine = machine(&[name], desktop(64));
        let found = check(&format!("{name}-mxfp4"), &model, &machine);
        by_hand(&model, &machine, &found);
    }
}

#[test]
fn two_cards_of_16_gib() {
    let machine = machine(&["4060ti", "4060ti"], desktop(64));
    let model = subject("35b-a3b", Mix::Q6_K);
    let found = check("2x4060ti-q6_k", &model, &machine);
    let used: BTreeSet<Device> = found
        .placement
        .layers
        .iter()
        .map(|place| place.rest)
        .collect();
    assert_eq!(used.len(), 2);
}

#[test]
fn rtx_4070_with_32_gib() {
    let machine = machine(&["4070"], desktop(32));
    let model = subject("35b-a3b", Mix::Q4_K_M);
    let found = check("4070-q4_k_m", &model, &machine);
    by_hand(&model, &machine, &found);
}

/// Room for layers' experts on their way is only where a prompt is faster with it, or where it is asked for.
#[test]
fn no_room_is_kept_for_what_never_comes() {
    let model = subject("35b-a3b", Mix::Q4_K_M);
    let of = |machine: &Machine, wish: &Wish| {
        let found = plan(&model.anatomy, machine, wish).unwrap();
        let from = streams_from(&model.anatomy, machine, wish, &found.placement);
        (
            found.placement.stream_rooms,
            from,
            found.placement.layers_with_experts_in_ram(),
        )
    };
    let planned = Wish::default();
    let asked = Wish {
        stream_if_faster: false,
        ..Wish::default()
    };
    let strong = machine(&["4070"], desktop(32));
    let (rooms, from, in_ram) = of(&strong, &planned);
    assert_eq!((rooms, from), (0, None));
    let (rooms, from, more_in_ram) = of(&strong, &asked);
    assert_eq!((rooms, from), (2, None));
    assert!(more_in_ram > in_ram, "{more_in_ram} {in_ram}");
    // Steps of more tokens, or a fourth of the CPU: copying is worth its room.
    let long = Wish {
        step_tokens: 4096,
        chunk_tokens: 4096,
        ..Wish::default()
    };
    assert!(of(&strong, &long).0 > 0 && of(&strong, &long).1.is_some());
    let host = Host {
        macs: desktop(32).macs / 4.0,
        ..desktop(32)
    };
    let (rooms, from, _) = of(&machine(&["4070"], host), &planned);
    assert!(rooms > 0 && from.is_some(), "{rooms} {from:?}");
}

#[test]
fn h200() {
    let host = Host {
        threads: 16,
        bandwidth: 200e9,
        macs: 16.0 * 3.5e9 * 64.0,
        ..desktop(128)
    };
    let machine = machine(&["h200"], host);
    let model = subject("35b-a3b", Mix::Q4_K_M);
    let found = check("h200-q4_k_m", &model, &machine);
    assert_eq!(found.placement.embedding, Device::Gpu(0));
    by_hand(&model, &machine, &found);
    check(
        "h200-122b-q4_k_m",
        &subject("122b-a10b", Mix::Q4_K_M),
        &machine,
    );
}

#[test]
fn cpu_alone() {
    let machine = machine(&[], desktop(64));
    let model = subject("35b-a3b", Mix::Q4_K_M);
    let found = check("cpu-q4_k_m", &model, &machine);
    // 962.5 of projections, 609.5 of experts, 417.2 of the head, 131.7 of state: docs/performance.md.
    let bytes = (962.5 + 609.5 + 417.2 + 131.7) * 1e6;
    let seconds = bytes / (80e9 * factors::CPU_READS);
    let speed = decode(
        &model.anatomy,
        &machine,
        &Wish::default(),
        &found.placement,
        1,
        0,
    );
    assert!(
        (speed.seconds / seconds - 1.0).abs() < 2e-3,
        "{} {seconds}",
        speed.seconds
    );
    assert_eq!(speed.limit(), Limit::RamBytes);
}

#[test]
fn a_dense_model_over_card_and_ram() {
    let machine = machine(&["5080"], desktop(64));
    let found = check("5080-27b-q4_k_m", &subject("27b", Mix::Q4_K_M), &machine);
    let on_gpu = found.placement.layers_on_gpus();
    assert!(on_gpu > 0 && on_gpu < 64);
}

/// Decoding of the 35B at depth 0 with one GPU, from its shapes.
fn by_hand(model: &Subject, machine: &Machine, found: &Plan) {
    const WIDTH: f64 = 2048.0;
    let gpu = &machine.gpus[0];
    let in_ram = found.placement.layers_with_experts_in_ram();
    // Three matrices of 512 x 2,048, as the mix stores those of these layers.
    let expert = |layer: usize| {
        let group = model
            .anatomy
            .group(Block::Layer(layer), Piece::Experts)
            .unwrap();
        let values = 256.0 * 3.0 * 512.0 * WIDTH;
        let bits = 8.0 * group.bytes as f64 / values;
        assert!((4.2..8.6).contains(&bits), "{bits}");
        group.bytes as f64 / 256.0
    };
    let all: f64 = (0..40).map(|layer| 8.0 * expert(layer)).sum();
    let missed: f64 = (0..in_ram)
        .map(|layer| (1.0 - found.placement.layers[layer].cached) * 8.0 * expert(layer))
        .sum();
    let hit: f64 = (0..in_ram)
        .map(|layer| found.placement.layers[layer].cached * 8.0 * expert(layer))
        .sum();
    let ram = missed / (machine.host.bandwidth * factors::CPU_READS);
    // 32 matrices of 128 x 128 and 3 rows of 8,192 channels in each of 30 layers, read and written.
    let state = 2.0 * 30.0 * 4.0 * (32.0 * 128.0 * 128.0 + 3.0 * 8192.0);
    let token = 10.0 * 2.0 * 256.0 * 2.0 * 2.0;
    // Copies are read while the CPU computes the others.
    let vram = model.anatomy.read_bytes() - all + (all - missed - hit) + state + token;
    let vram = vram / (gpu.bandwidth * factors::GPU_READS);
    let kernels = 40.0 * factors::LAUNCHES_PER_LAYER + factors::LAUNCHES_AROUND;
    let launches = kernels * factors::LAUNCH_SECONDS;
    let link = gpu.pcie * factors::PCIE_CARRIES;
    let crossing = factors::CROSSING_SECONDS + 4.0 * WIDTH / link;
    // Into every such layer and back, and once from the embedding to the first.
    let first = f64::from(u8::from(found.placement.embedding == Device::Ram));
    let link = (2.0 * in_ram as f64 + first) * crossing;
    let seconds = ram + vram + launches + link;
    let speed = decode(
        &model.anatomy,
        machine,
        &Wish::default(),
        &found.placement,
        1,
        0,
    );
    assert!(
        (speed.seconds / seconds - 1.0).abs() < 1e-3,
        "{}: {} instead of {seconds}",
        model.name,
        speed.seconds
    );
}

/// The counts of `docs/performance.md`, in 10^6 bytes.
#[test]
fn bytes_are_those_of_the_table() {
    let check = |mix, layers: usize, common: f64, experts: f64, head: f64| {
        let config = presets::find("35b-a3b").unwrap().config(layers, true);
        let anatomy = of_mix(&config, mix, false).unwrap();
        let chosen: f64 = (0..layers)
            .map(|layer| anatomy.experts(Block::Layer(layer)).unwrap())
            .map(|experts| experts.top_k * experts.bytes)
            .sum();
        let near = |found: f64, want: f64| {
            assert!(
                (found / 1e6 - want).abs() < 0.06,
                "{mix} {layers}: {found} {want}"
            );
        };
        near(chosen, experts);
        near(anatomy.head().bytes as f64, head);
        near(
            anatomy.read_bytes() - chosen - anatomy.head().bytes as f64,
            common,
        );
    };
    check(Mix::Q4_K_M, 40, 962.5, 609.5, 417.2);
    check(Mix::Q8_0, 40, 1597.5, 1069.5, 540.3);
    check(Mix::MXFP4_MOE, 40, 1597.5, 534.8, 540.3);
    check(Mix::Q4_K_M, 8, 189.3, 121.9, 417.2);
    check(Mix::MXFP4_MOE, 8, 319.5, 107.0, 540.3);
}

/// The same as `bench` counts from loaded weights.
#[test]
fn bench_counts_the_same() {
    let opened = crate::embedded::open().unwrap();
    let anatomy = opened.anatomy().unwrap();
    let layout = engine::EngineSettings::single(64).layout(&opened.config);
    let weights = opened.weights().unwrap();
    let limits = crate::bench::limits::Limits::count(&weights, &opened.config, &layout).unwrap();
    let row = 256.0 * 2.0;
    let counted = limits.decode(1, 1.0).weights - row;
    assert!((counted - anatomy.read_bytes()).abs() < 1.0, "{counted}");
    assert!(anatomy.group(Block::Model, Piece::Unused).is_none());
}

/// Inputs are not rounded for weights of 16 bits, whose products have other rates.
#[test]
fn weights_of_16_bits_take_their_own_time_in_prompts() {
    let anatomy = eight_layers(Mix::BF16);
    // What a row of a prompt multiplies: of 256 experts 8.
    let macs = |group: &engine::plan::Group| match (group.block, group.piece) {
        (Block::Layer(_), Piece::Experts) => group.half_macs * 8.0 / 256.0,
        (Block::Layer(_), _) => group.half_macs,
        _ => 0.0,
    };
    let macs: f64 = anatomy.groups.iter().map(macs).sum();
    assert!((0.45e9..0.55e9).contains(&macs), "{macs}");
    // Without a GPU f32, a quarter of the lanes; on one two products at a quarter of the int8 rate.
    let cpu = 0.49 / 4.0 * 8.0 * 4.5e9 * 64.0;
    let gpu = 0.20 / 4.0 / 2.0 * 989.5e12;
    for (gpus, limit, rate) in [
        (&[][..], Limit::CpuOperations, cpu),
        (&["h200"], Limit::GpuOperations, gpu),
    ] {
        let (machine, wish) = (machine(gpus, desktop(64)), Wish::default());
        let found = plan(&anatomy, &machine, &wish).unwrap();
        let speed = prefill(&anatomy, &machine, &wish, &found.placement, 512, 0);
        let of_it = speed.terms.iter().filter(|term| term.limit == limit);
        let seconds: f64 = of_it.map(|term| term.seconds).sum();
        // Beside them, attention and the delta rule.
        let share = 512.0 * macs / rate / seconds;
        assert!((0.6..1.0).contains(&share), "{share} {speed:?}");
    }
}

/// What was measured (`docs/performance.md`) beside what is predicted for the same machine: two cores of
/// 236 GMAC/s. The read bandwidth is that of the run, where it is told; prompts do not depend on it.
#[test]
fn predictions_for_the_cpu_are_near_what_was_measured() {
    let speed = |mix, bandwidth: f64, depth: usize, prompt: usize| {
        let anatomy = eight_layers(mix);
        let host = Host {
            threads: 2,
            bandwidth,
            macs: 2.0 * 236e9,
            ..desktop(24)
        };
        let machine = machine(&[], host);
        let wish = Wish {
            context: 32_768,
            ..Wish::default()
        };
        let found = plan(&anatomy, &machine, &wish).unwrap();
        let speed = match prompt {
            0 => decode(&anatomy, &machine, &wish, &found.placement, 1, depth),
            tokens => prefill(&anatomy, &machine, &wish, &found.placement, tokens, depth),
        };
        speed.tokens_per_second()
    };
    let check = |found: f64, measured: f64, error: f64| {
        let off = found / measured - 1.0;
        assert!(
            (off - error).abs() < 0.02,
            "{found} for {measured}: {off:+.3}"
        );
    };
    check(speed(Mix::Q4_K_M, 31.2e9, 0, 0), 37.5, -0.06);
    check(speed(Mix::MXFP4_MOE, 33.9e9, 0, 0), 29.3, -0.01);
    check(speed(Mix::Q4_K_M, 35e9, 0, 512), 428.0, 0.0);
    check(speed(Mix::MXFP4_MOE, 35e9, 0, 512), 397.0, 0.08);
    check(speed(Mix::Q4_K_M, 35e9, 4096, 512), 295.0, 0.12);
    check(speed(Mix::Q4_K_M, 35e9, 16_384, 512), 183.0, 0.08);
    // Decoding at 16,384 tokens ran at 79 % of its speed at depth 0.
    let share = speed(Mix::Q4_K_M, 31.2e9, 16_384, 0) / speed(Mix::Q4_K_M, 31.2e9, 0, 0);
    assert!((share - 0.85).abs() < 0.02, "{share}");
}

#[test]
fn what_does_not_fit_is_told_what_would() {
    let machine = machine(&["4070"], desktop(16));
    let model = subject("35b-a3b", Mix::Q8_0);
    let error = super::planned(&model, &machine, &Wish::default())
        .unwrap_err()
        .to_string();
    for part in [
        "qwen3.5-35b-a3b:Q8_0 does not fit over the GPUs",
        "of RAM are needed",
        "Q5_K_M with",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("BF16"), "{error}");
    let wish = Wish {
        context: 262_144,
        sequences: 4,
        ..Wish::default()
    };
    let model = subject("27b", Mix::Q4_K_M);
    let error = super::planned(&model, &machine, &wish)
        .unwrap_err()
        .to_string();
    assert!(error.contains("a context of"), "{error}");
}

#[test]
fn comparisons_have_a_row_for_each_type() {
    let machine = machine(&["5080"], desktop(32));
    let model = subject("35b-a3b", Mix::Q4_K_M);
    let rows = super::compare(&model, &machine, &Wish::default()).unwrap();
    assert_eq!(rows.len(), MIXES.len());
    let text = table::comparison(&model, &machine, &Wish::default(), &rows, &[]);
    assert!(
        text.contains("| BF16 | ") && text.contains("does not fit"),
        "{text}"
    );
    let json = serde_json::to_string(&super::report::comparison(&rows)).unwrap();
    assert!(json.contains("\"fits\":false"), "{json}");
}

/// What files of other makers have, by the rules of llama.cpp's quantiser.
#[test]
fn mixes_of_few_bits_have_the_types_of_their_rules() {
    let config = presets::find("35b-a3b").unwrap().config(40, true);
    let extras = Extras {
        head: true,
        ..Extras::default()
    };
    let counts = |mix: Quantised| {
        let mut counts = BTreeMap::<String, usize>::new();
        for slot in slots(&config, extras) {
            let dtype = Stored::Quantised(mix).dtype(&slot, &config, true);
            *counts
                .entry(format!("{:?} {dtype}", slot.part))
                .or_default() += 1;
        }
        counts
    };
    let check = |mix, expected: &[(&str, usize)]| {
        let counts = counts(mix);
        for (what, count) in expected {
            assert_eq!(counts.get(*what), Some(count), "{mix:?} {what}: {counts:?}");
        }
    };
    // 41 layers with experts, that of drafts among them; 11 of them attend.
    check(
        Quantised::IQ4_XS,
        &[
            ("Output Q6_K", 1),
            ("Embedding IQ4_XS", 1),
            ("Qkv Q5_K", 30),
            ("Value Q5_K", 11),
            ("QueryGate IQ4_XS", 11),
            ("ExpertDowns IQ4_XS", 41),
            ("Router F32", 41),
        ],
    );
    check(
        Quantised::Q3_K_M,
        &[
            ("Qkv Q5_K", 2),
            ("Qkv Q4_K", 28),
            ("Value Q4_K", 11),
            ("AttentionOutput Q4_K", 11),
            ("DeltaOutput Q3_K", 30),
            ("ExpertUps Q3_K", 41),
            ("ExpertDowns Q5_K", 2),
            ("ExpertDowns Q4_K", 39),
        ],
    );
    check(
        Quantised::IQ3_XXS,
        &[
            ("Output Q5_K", 1),
            ("Embedding IQ3_S", 1),
            ("Key IQ2_S", 11),
            ("QueryGate IQ2_S", 11),
            ("AttentionOutput IQ3_S", 11),
            ("ExpertDowns IQ3_XXS", 41),
        ],
    );
    check(
        Quantised::IQ2_M,
        &[
            ("Embedding IQ3_S", 1),
            ("Qkv Q4_K", 30),
            ("ExpertGates IQ2_S", 41),
            ("ExpertDowns IQ3_S", 3),
            ("SharedDown IQ3_S", 2),
            ("ExpertDowns IQ2_S", 38),
        ],
    );
    let sizes = MIXES.map(|mix| of_mix(&config, mix, false).unwrap().stored_bytes());
    assert!(
        sizes[7..].is_sorted_by(|more, less| more > less),
        "{sizes:?}"
    );
}

/// What llama.cpp's quantiser itself told of the 8-layer model (a dry run with a matrix of importance).
#[test]
fn mixes_of_few_bits_are_as_large_as_the_quantiser_says() {
    for (mix, mebibytes) in [
        (Quantised::IQ4_NL, 4762.03),
        (Quantised::IQ4_XS, 4524.41),
        (Quantised::Q3_K_M, 4054.16),
        (Quantised::IQ3_M, 3777.10),
        (Quantised::IQ3_XXS, 3339.61),
        (Quantised::Q2_K, 3204.87),
        (Quantised::IQ2_M, 2927.38),
        (Quantised::IQ2_XXS, 2420.57),
    ] {
        let config = presets::find("35b-a3b").unwrap().config(8, true);
        let anatomy = of_mix(&config, Stored::Quantised(mix), false).unwrap();
        let found = anatomy.stored_bytes() as f64 / f64::from(1 << 20);
        assert!((found - mebibytes).abs() < 0.006, "{mix:?}: {found}");
    }
}

fn machines() -> impl Strategy<Value = Machine> {
    let gpu = (1_u64..48, 200_f64..5000.0, 50_f64..2000.0, 8_f64..64.0);
    let gpus = prop::collection::vec(gpu, 0..4);
    let host = (4_u64..200, 20_f64..300.0, 100_f64..5000.0);
    (gpus, host).prop_map(|(gpus, (ram, bandwidth, macs))| Machine {
        gpus: gpus
            .into_iter()
            .map(|(vram, bandwidth, tera, pcie)| engine::plan::Gpu {
                name: "any".to_owned(),
                total: vram << 30,
                free: (vram << 30) - 12_345,
                bandwidth: bandwidth * 1e9,
                macs: tera * 1e12,
                matrix_macs: tera * 4e12,
                pcie: pcie * 1e9,
            })
            .collect(),
        host: Host {
            bandwidth: bandwidth * 1e9,
            macs: macs * 1e9,
            ..desktop(ram)
        },
    })
}

fn wishes() -> impl Strategy<Value = Wish> {
    let types = prop::sample::select(vec![DType::F16, DType::Q8_0, DType::Q4_0, DType::F32]);
    (
        1_usize..300_000,
        types,
        1_usize..9,
        any::<bool>(),
        0_u64..4096,
    )
        .prop_map(|(context, kv, sequences, mtp, reserve)| Wish {
            context,
            kv: KvTypes::both(kv),
            sequences,
            mtp,
            vram_reserve: reserve << 20,
            ..Wish::default()
        })
}

#[test]
fn types_that_kernels_do_not_know_are_counted_as_f32_on_a_gpu() {
    let config = presets::find("35b-a3b").unwrap().config(4, true);
    let anatomy = of_mix(&config, Mix::Q4_K_M, false).unwrap();
    assert!(
        anatomy
            .groups
            .iter()
            .all(|group| group.bytes_in_vram() == group.bytes)
    );
    let mut group = anatomy.groups[0].clone();
    group.types = [(DType::F8_E4M3, 1000), (DType::Q5_0, 22), (DType::F16, 10)].into();
    assert_eq!(group.bytes_in_vram(), 4000 + 32 * 4 + 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A plan never takes more of a device than it has, and puts every tensor in one place.
    #[test]
    fn plans_fit_and_cover_every_tensor_once(
        preset in prop::sample::select(presets::PRESETS.to_vec()),
        mix in prop::sample::select(MIXES.to_vec()),
        machine in machines(),
        wish in wishes(),
    ) {
        let config = preset.config(preset.layers, true);
        let anatomy = of_mix(&config, mix, preset.tied).unwrap();
        let extras = Extras { head: !preset.tied, ..Extras::default() };
        let all: BTreeSet<String> = slots(&config, extras).iter().map(|slot| slot.name()).collect();
        let grouped: Vec<&String> = anatomy.groups.iter().flat_map(|group| &group.tensors).collect();
        prop_assert_eq!(grouped.len(), all.len());
        prop_assert!(grouped.into_iter().all(|name| all.contains(name)));

        let Ok(found) = plan(&anatomy, &machine, &wish) else {
            return Ok(());
        };
        let mut placed = 0;
        for budget in &found.budgets {
            prop_assert!(budget.fits(), "{:?}", budget);
            let free = match budget.device {
                Device::Gpu(index) => machine.gpus[index].free,
                _ => machine.host.free,
            };
            prop_assert_eq!(budget.free, free);
            let here = anatomy.groups.iter().filter(|group| found.placement.of(group) == budget.device);
            prop_assert_eq!(budget.weights, here.map(|group| group.bytes).sum::<u64>());
            placed += budget.weights;
        }
        let nowhere = anatomy.groups.iter().filter(|group| found.placement.of(group) == Device::Nowhere);
        prop_assert_eq!(placed + nowhere.map(|group| group.bytes).sum::<u64>(), anatomy.stored_bytes());
        // Only what nobody asked for stays where it is.
        let missing = anatomy.groups.iter().filter(|group| found.placement.of(group) == Device::Nowhere);
        for group in missing {
            prop_assert!(group.block == Block::Mtp && !wish.mtp);
        }
        let speed = decode(&anatomy, &machine, &wish, &found.placement, wish.sequences, 0);
        prop_assert!(speed.seconds.is_finite() && speed.seconds > 0.0);
    }
}
