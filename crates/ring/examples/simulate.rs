//! Prints the comparison of placements and how long plans take; with a path, writes the SVG of a
//! small ring there. `cargo run --release -p ringfs-ring --example simulate -- [svg path]`

use ringfs_ring::simulate::Scenario;
use ringfs_ring::{ARCS_DEFAULT, Member, MovePlan, NodeName, ZoneName, plan, svg};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", Scenario::equal_servers(100, 3, ARCS_DEFAULT).run()?.to_text());

    let servers = |n: usize| -> Result<Vec<Member>, Box<dyn std::error::Error>> {
        (0..n).map(|i| Ok(Member::new(NodeName::new(&format!("n{i:04}"))?))).collect()
    };
    let zoned = |n: usize, zones: usize| -> Result<Vec<Member>, Box<dyn std::error::Error>> {
        let zone = |i: usize| ZoneName::new(&format!("z{}", i % zones));
        servers(n)?.into_iter().enumerate().map(|(i, m)| Ok(m.in_zone(zone(i)?))).collect()
    };
    println!("\nplan, 3 copies                       first      one less      one more");
    for (what, members, more, arcs) in [
        ("100 servers, 4096 arcs", servers(100)?, servers(101)?, 4096),
        ("1000 servers, 4096 arcs", servers(1000)?, servers(1001)?, 4096),
        ("1000 servers, 32768 arcs", servers(1000)?, servers(1001)?, 32768),
        ("1000 servers in 10 zones, 4096 arcs", zoned(1000, 10)?, zoned(1001, 10)?, 4096),
    ] {
        let begin = Instant::now();
        let first = plan(None, &members, 3, arcs)?;
        let (t_first, begin) = (begin.elapsed(), Instant::now());
        let less = plan(Some(&first), &members[1..], 3, arcs)?;
        let (t_less, begin) = (begin.elapsed(), Instant::now());
        let grown = plan(Some(&first), &more, 3, arcs)?;
        println!(
            "{what:<36} {:>6.1} ms {:>6.1} ms {:>6.1} ms   moved {} and {} copies, max/mean {:.4}",
            t_first.as_secs_f64() * 1e3,
            t_less.as_secs_f64() * 1e3,
            begin.elapsed().as_secs_f64() * 1e3,
            MovePlan::between(&first, &less).copies_gained(),
            MovePlan::between(&first, &grown).copies_gained(),
            first.shares().copies_max_over_mean(),
        );
    }
    if let Some(path) = std::env::args().nth(1) {
        let servers: usize = std::env::args().nth(2).map_or(Ok(5), |n| n.parse())?;
        let mut members = zoned(servers, 3)?;
        members[0].weight = 2;
        std::fs::write(path, svg::svg(&plan(None, &members, 3, ARCS_DEFAULT)?))?;
    }
    Ok(())
}
