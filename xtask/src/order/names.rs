//! From addresses that ran to names which a linker finds again, in this build and in later ones.

use std::collections::{BTreeMap, BTreeSet};

/// A function's place in the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    address: u64,
    size: u64,
    name: String,
}

/// What the linker is told, and what it stands for.
pub(super) struct Order {
    /// Ends of section names, `*` for what differs from build to build.
    pub(super) lines: Vec<String>,
    pub(super) functions: usize,
    /// Bytes of all functions with these names.
    pub(super) bytes: u64,
    /// Bytes of those that ran.
    pub(super) ran: u64,
}

/// The functions that `nm -S` lists, by address.
pub(super) fn functions(listed: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = listed.lines().filter_map(function).collect();
    functions.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    functions
}

fn function(line: &str) -> Option<Function> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [address, size, kind, name] = fields.as_slice() else { return None };
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let function =
        Function { address: number(address)?, size: number(size)?, name: (*name).to_owned() };
    matches!(*kind, "t" | "T" | "w" | "W").then_some(function)
}

/// The names of the functions that these addresses are in, in the order of the addresses.
pub(super) fn order(functions: &[Function], addresses: &[u64]) -> Order {
    let mut ran = BTreeMap::new();
    for address in addresses {
        let behind = functions.partition_point(|function| function.address <= *address);
        let Some(last) = behind.checked_sub(1).and_then(|index| functions.get(index)) else {
            continue;
        };
        if *address < last.address + last.size.max(1) {
            let next = ran.len();
            ran.entry(last.address).or_insert(next);
        }
    }
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    // Folded functions share an address: any of their names may be the one that is kept.
    for function in functions {
        if let Some(at) = ran.get(&function.address) {
            let first = first.entry(line(&function.name)).or_insert(*at);
            *first = (*first).min(*at);
        }
    }
    let (mut bytes, mut counted) = (BTreeMap::new(), BTreeMap::new());
    for function in functions {
        if first.contains_key(&line(&function.name)) {
            bytes.insert(function.address, function.size);
        }
        if ran.contains_key(&function.address) {
            counted.insert(function.address, function.size);
        }
    }
    let lines: BTreeSet<(usize, String)> = first.into_iter().map(|(line, at)| (at, line)).collect();
    Order {
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        functions: ran.len(),
        bytes: bytes.values().sum(),
        ran: counted.values().sum(),
    }
}

/// A symbol's name without what a compiler or a dependency's next version changes: the hash at the end of
/// an old mangled name, the crates' hashes in a new one, the number of a promoted local.
fn line(name: &str) -> String {
    let name = name.split(".llvm.").next().unwrap_or_default();
    if name.starts_with("_R") {
        return without_crate_hashes(name);
    }
    match name.rfind("17h") {
        Some(at) if name.starts_with("_ZN") && name.len() >= at + 20 => {
            format!("{}17h*", name.get(..at).unwrap_or_default())
        }
        _ => name.to_owned(),
    }
}

fn without_crate_hashes(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let (before, after) = rest.split_at(at + 2);
        text.push_str(before);
        let hash = after.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(0);
        let is_hash = hash >= 8 && after[hash..].starts_with('_');
        text.push_str(if is_hash { "*" } else { "" });
        rest = if is_hash { &after[hash..] } else { after };
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_changes() {
        assert_eq!(line("_ZN4http3uri3Uri4port17h3aae78d6d3d0935fE"), "_ZN4http3uri3Uri4port17h*");
        assert_eq!(line("_ZN1a1b17h3aae78d6d3d0935fE.llvm.123"), "_ZN1a1b17h*");
        assert_eq!(line("sqlite3_step"), "sqlite3_step");
        let new =
            "_RINvNtCsgEmfK2I1SDS_4core5slice20copy_from_slice_implhECsfEOYDRpO4Ta_11miniz_oxide";
        let short = "_RINvNtCs*_4core5slice20copy_from_slice_implhECs*_11miniz_oxide";
        assert_eq!(line(new), short);
    }

    #[test]
    fn what_ran_first_comes_first_with_all_its_names() {
        let listed = "0000000000001000 0000000000000010 t one\n\
            0000000000001010 0000000000000010 T _ZN3two17h3aae78d6d3d0935fE\n\
            0000000000001010 0000000000000010 t _ZN4fold17h0aae78d6d3d0935fE\n\
            0000000000001020 0000000000000020 t _ZN3two17h4aae78d6d3d0935fE\n\
            0000000000001040 0000000000000008 D data\n\
            0000000000001050 0000000000000008 t never\n";
        let order = order(&functions(listed), &[0x1018, 0x1000, 0x1049, 0x1018]);
        assert_eq!(order.lines, ["_ZN3two17h*", "_ZN4fold17h*", "one"]);
        assert_eq!((order.functions, order.ran, order.bytes), (2, 0x20, 0x40));
    }
}
