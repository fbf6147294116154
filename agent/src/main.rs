//! test
fn main() {
    let p = procscope_agent::probes::Probes::attach(2).unwrap();
    let mut d = procscope_agent::drain::Drain::open(p, 2).unwrap();
    for _ in 0..3 {
    std::thread::sleep(std::time::Duration::from_millis(500));
    let n = d.events(|_| {});
    d.next_epoch().unwrap();
    let mut k = 0; let t = std::time::Instant::now();
    d.walk(|t, p| { k += 1; if k % 20 == 0 || p > 0 { println!("{} {} {:?} pages {} peak {p} {}", t.tid, t.totals.cpu_time_ns, t.flags, t.anon_pages, String::from_utf8_lossy(&t.comm)); } }).unwrap();
    println!("events {n} tasks {k} in {:?} idle {:?} {:?} drops {:?}", t.elapsed(), d.idle(0, 0), d.idle(1, 0), d.drops());
    }
}
