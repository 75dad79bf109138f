//! The processors, from /proc/cpuinfo.

use std::collections::HashSet;

use crate::read::machine::Machine;
use crate::report::Processor;

const CPUINFO: &str = "/proc/cpuinfo";

/// The sum of all.
pub fn read(machine: &Machine) -> Processor {
    match machine.text(CPUINFO) {
        Ok(text) => parse(&text),
        Err(error) => {
            machine.unreadable("processor", CPUINFO, &error);
            Processor::default()
        }
    }
}

fn parse(text: &str) -> Processor {
    let mut model = None;
    let (mut threads, mut packages, mut cores) = (0, HashSet::new(), HashSet::new());
    for block in text.split("\n\n") {
        let field = |name: &str| {
            block.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| jsonpipe::shown(value.trim()).into_owned())
            })
        };
        if field("processor").is_none() {
            continue;
        }
        threads += 1;
        model = model.or_else(|| field("model name"));
        if let (Some(package), Some(core)) = (field("physical id"), field("core id")) {
            packages.insert(package.clone());
            cores.insert((package, core));
        }
    }
    let known = |count: usize| (count > 0).then_some(count as u64);
    Processor {
        model,
        packages: known(packages.len()),
        cores: known(cores.len()),
        threads: known(threads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_cores() {
        let block = |number: u32, core: u32| {
            format!(
                "processor\t: {number}\nmodel name\t: Intel(R) Core(TM) i7-4790 CPU @ 3.60GHz\nphysical id\t: 0\ncore id\t\t: {core}\n\n"
            )
        };
        let text: String = (0..8).map(|number| block(number, number % 4)).collect();
        let expected = Processor {
            model: Some("Intel(R) Core(TM) i7-4790 CPU @ 3.60GHz".into()),
            packages: Some(1),
            cores: Some(4),
            threads: Some(8),
        };
        assert_eq!(parse(&text), expected);
        assert_eq!(parse(""), Processor::default());
    }
}
