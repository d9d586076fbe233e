//! Experts that are brought beside other work: in slots and in rooms, whenever they come.

use proptest::prelude::*;
use tensor::{Accelerator, MoeWeights, Ops, Reference, Tensor};

use super::experts::{Moe, StoredMoe, TYPES, load_moe, sizes, stored_moe};
use super::{Random, assert_close, assert_same, cases, gpu, is_refused, read, upload};
use crate::Gpu;

/// What those in slots say, with the shared one.
fn run_slots<A: Accelerator>(
    device: &A,
    (router, moe): (&A::Matrix, &Moe<A>),
    slots: &A::Slots,
    x: &Tensor,
) -> A::Tensor {
    let x = upload(device, x);
    let routing = device.route(&x, &moe.as_ref()).unwrap();
    let weights = MoeWeights {
        router,
        experts: slots,
        top_k: moe.top_k,
        renormalise: moe.renormalise,
        shared: moe.as_ref().shared,
    };
    device.experts_in_slots(&x, &routing, &weights).unwrap()
}

/// Asks until an expert is there.
fn come<A: Accelerator>(device: &A, slots: &mut A::Slots, slot: usize) {
    for _ in 0..1_000_000 {
        if device.has_come(slots, slot).unwrap() {
            return;
        }
    }
    panic!("it never came");
}

/// Slots in which some experts are.
fn filled<A: Accelerator>(device: &A, stored: &StoredMoe, there: &[usize]) -> A::Slots {
    let experts = &stored.experts;
    let mut slots = device.expert_slots(experts, there.len()).unwrap();
    let mut slot_of = vec![None; experts.experts.len()];
    for (slot, &expert) in there.iter().enumerate() {
        let weights = &experts.experts[expert];
        device.bring_expert(&mut slots, slot, weights).unwrap();
        slot_of[expert] = Some(slot);
    }
    (0..there.len()).for_each(|slot| come(device, &mut slots, slot));
    device.set_slots(&mut slots, &slot_of).unwrap();
    slots
}

/// Steps in which slots get other experts while what was asked of the old ones is not done yet.
pub(super) fn check_slots(gpu: &Gpu, seed: u64, rows: usize) {
    let mut random = Random::new(seed);
    let types = TYPES[random.index(TYPES.len())];
    let (hidden, width) = sizes(types);
    let stored = stored_moe(&mut random, types, hidden, width);
    let count = stored.experts.experts.len();
    let all: Vec<usize> = (0..count).collect();
    let moe = load_moe(gpu, &stored);
    let x = random.tensor(rows, hidden);

    // All of them are as if they had been loaded.
    let slots = filled(gpu, &stored, &all);
    let found = read(gpu, run_slots(gpu, (&moe.router, &moe), &slots, &x));
    let inputs = upload(gpu, &x);
    let routing = gpu.route(&inputs, &moe.as_ref()).unwrap();
    let expected = read(gpu, gpu.experts(&inputs, &routing, &moe.as_ref()).unwrap());
    assert_same("all in slots", found.data(), expected.data());

    // What others would add is left out.
    let bound = 2e-2;
    let reference = Reference::default();
    let mut there: Vec<usize> = all
        .iter()
        .copied()
        .filter(|_| random.index(3) > 0)
        .collect();
    there.push(
        (0..count)
            .find(|expert| !there.contains(expert))
            .unwrap_or(0),
    );
    there.dedup();
    let expected = filled(&reference, &stored, &there);
    let expected = run_slots(&reference, (&stored.router, &stored), &expected, &x);
    let mut slots = filled(gpu, &stored, &there);
    let found = read(gpu, run_slots(gpu, (&moe.router, &moe), &slots, &x));
    assert_close(&format!("{types:?}"), found.data(), expected.data(), bound);

    // Slots are used, given to another, and used again: each result is that of slots that are not touched.
    for _ in 0..2 {
        let alone = |there: &[usize]| {
            let slots = filled(gpu, &stored, there);
            read(gpu, run_slots(gpu, (&moe.router, &moe), &slots, &x))
        };
        let before = alone(&there);
        let pending = run_slots(gpu, (&moe.router, &moe), &slots, &x);
        let slot = random.index(there.len());
        let absent: Vec<usize> = all.iter().copied().filter(|e| !there.contains(e)).collect();
        let Some(&other) = absent.get(random.index(absent.len().max(1))) else {
            return;
        };
        let weights = &stored.experts.experts[other];
        gpu.bring_expert(&mut slots, slot, weights).unwrap();
        assert_same("before", read(gpu, pending).data(), before.data());
        there[slot] = other;
        let after = alone(&there);
        come(gpu, &mut slots, slot);
        let mut slot_of = vec![None; count];
        for (slot, &expert) in there.iter().enumerate() {
            slot_of[expert] = Some(slot);
        }
        gpu.set_slots(&mut slots, &slot_of).unwrap();
        let found = run_slots(gpu, (&moe.router, &moe), &slots, &x);
        assert_same("after", read(gpu, found).data(), after.data());
    }
}

/// Layers that go through two rooms, each filled while the other is computed with.
pub(super) fn check_rooms(gpu: &Gpu, seed: u64) {
    let mut random = Random::new(seed);
    let layers: Vec<StoredMoe> = (0..5)
        .map(|_| {
            let types = TYPES[random.index(TYPES.len())];
            let (hidden, width) = sizes(types);
            stored_moe(&mut random, types, hidden, width)
        })
        .collect();
    let moes: Vec<Moe<Gpu>> = layers.iter().map(|stored| load_moe(gpu, stored)).collect();
    let mut rooms = [gpu.room(), gpu.room()];
    gpu.fill_room(&mut rooms[0], &layers[0].experts).unwrap();
    let mut asked = Vec::new();
    for (index, moe) in moes.iter().enumerate() {
        let rows = 1 + random.index(20);
        let x = random.tensor(rows, moe.router.cols());
        let inputs = upload(gpu, &x);
        let routing = gpu.route(&inputs, &moe.as_ref()).unwrap();
        let weights = MoeWeights {
            router: &moe.router,
            experts: &mut rooms[index % 2],
            top_k: moe.top_k,
            renormalise: moe.renormalise,
            shared: moe.as_ref().shared,
        };
        let found = gpu.experts_in_room(&inputs, &routing, weights).unwrap();
        if let Some(next) = layers.get(index + 1) {
            gpu.fill_room(&mut rooms[(index + 1) % 2], &next.experts)
                .unwrap();
        }
        asked.push((found, inputs, routing));
    }
    // Nothing was waited for so far.
    for (moe, (found, inputs, routing)) in moes.iter().zip(asked) {
        let expected = gpu.experts(&inputs, &routing, &moe.as_ref()).unwrap();
        assert_same(
            "a room",
            read(gpu, found).data(),
            read(gpu, expected).data(),
        );
    }
}

proptest! {
    #![proptest_config(cases(3))]

    #[test]
    fn slots_have_what_was_brought_and_what_was_asked_for(seed: u64, rows in 1..20usize) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check_slots(&gpu, seed, rows);
    }

    #[test]
    fn rooms_are_filled_while_others_are_read(seed: u64) {
        let Some(gpu) = gpu() else { return Ok(()) };
        check_rooms(&gpu, seed);
    }
}

#[test]
fn slots_refuse_what_does_not_belong_there() {
    let Some(gpu) = gpu() else { return };
    let mut random = Random::new(5);
    let stored = stored_moe(&mut random, TYPES[1], 64, 32);
    let other = stored_moe(&mut random, TYPES[0], 64, 32);
    let count = stored.experts.experts.len();
    let mut slots = gpu.expert_slots(&stored.experts, 1).unwrap();
    let expert = &stored.experts.experts[0];
    assert!(is_refused(gpu.bring_expert(&mut slots, 1, expert)));
    let unlike = &other.experts.experts[0];
    assert!(is_refused(gpu.bring_expert(&mut slots, 0, unlike)));
    // Nothing has come.
    let mut slot_of = vec![None; count];
    slot_of[0] = Some(0);
    assert!(is_refused(gpu.set_slots(&mut slots, &slot_of)));
    assert!(!gpu.has_come(&mut slots, 0).unwrap());
    assert!(is_refused(
        gpu.set_slots(&mut slots, &vec![None; count + 1])
    ));
    gpu.bring_expert(&mut slots, 0, expert).unwrap();
    come(&*gpu, &mut slots, 0);
    gpu.set_slots(&mut slots, &slot_of).unwrap();
    let mut room = gpu.room();
    let moe = load_moe(&*gpu, &stored);
    let x = upload(&*gpu, &random.tensor(2, 64));
    let routing = gpu.route(&x, &moe.as_ref()).unwrap();
    let weights = MoeWeights {
        router: &moe.router,
        experts: &mut room,
        top_k: moe.top_k,
        renormalise: moe.renormalise,
        shared: None,
    };
    assert!(is_refused(gpu.experts_in_room(&x, &routing, weights)));
}
