//! Compiled programs are kept, and whatever happens to their files they are compiled again.

use std::path::{Path, PathBuf};

use super::{build_folder, gpu, standin_options};
use crate::{Gpu, GpuError, Options, image_cache};

/// Files below a folder.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_of(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn damaged_and_refused_images_are_compiled_again() {
    let Some(_alone) = gpu() else { return };
    let Some(options) = standin_options() else {
        return;
    };
    let folder = build_folder().join(format!("damaged-{}", std::process::id()));
    let options = Options {
        cache: Some(folder.clone()),
        ..options
    };
    let prepare = |options: &Options| Gpu::open(options.clone()).unwrap().prepare();
    prepare(&options).unwrap();
    let files = files_of(&folder);
    let [path] = files.as_slice() else {
        panic!("one program is one file, not {files:?}");
    };
    let whole = std::fs::read(path).unwrap();
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    image_cache::write(path, b"of another driver\0").unwrap();
    let refused = std::fs::read(path).unwrap();
    let damaged = [
        Vec::new(),
        whole[..5].to_vec(),
        whole[..16].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        [whole.as_slice(), b"x"].concat(),
        vec![0; whole.len()],
        changed(0),
        changed(9),
        changed(18),
        refused,
    ];
    let without = Options {
        compiler: Some("/nowhere/libnvrtc.so".into()),
        ..options.clone()
    };
    for bytes in damaged {
        std::fs::write(path, &bytes).unwrap();
        let found = prepare(&without);
        assert!(
            matches!(found, Err(GpuError::NoCompiler { .. })),
            "{bytes:x?}: {found:?}"
        );
        prepare(&options).unwrap();
        assert_eq!(
            std::fs::read(path).unwrap(),
            whole,
            "in place of {bytes:x?}"
        );
        prepare(&without).unwrap();
    }
    assert_eq!(files_of(&folder), files, "nothing is left of writing");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn images_and_numerics_are_of_one_compiler_and_its_options() {
    let Some(_alone) = gpu() else { return };
    let Some(options) = standin_options() else {
        return;
    };
    let folder = build_folder().join(format!("versions-{}", std::process::id()));
    let options = Options {
        cache: Some(folder.clone()),
        ..options
    };
    let without = Options {
        compiler: Some("/nowhere/libnvrtc.so".into()),
        ..options.clone()
    };
    let gpu = Gpu::open(options.clone()).unwrap();
    let numerics = gpu.numerics();
    assert!(numerics.contains("nvrtc 13.0"), "{numerics}");
    let none = Gpu::open(without.clone()).unwrap().numerics();
    assert!(none.contains("nvrtc 0.0"), "{none}");
    gpu.prepare().unwrap();
    assert_eq!(Gpu::open(without.clone()).unwrap().numerics(), numerics);
    // Images of another compiler are not those of this one.
    std::fs::rename(folder.join("nvrtc-13.0"), folder.join("nvrtc-12.9")).unwrap();
    let older = Gpu::open(without).unwrap();
    older.prepare().unwrap();
    assert_eq!(older.numerics(), numerics.replace("13.0", "12.9"));
    Gpu::open(options).unwrap().prepare().unwrap();
    assert_eq!(files_of(&folder).len(), 2);
    assert_eq!(image_cache::newest(&folder), Some((13, 0)));
    std::fs::remove_dir_all(&folder).unwrap();
}
