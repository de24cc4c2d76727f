//! The benchmark of the key-value store works and prints what it says that it does. Its figures are taken
//! by `groundswell-bench kv`: in so small a run they would be chance.

use groundswell_bench::kv::{self, Size};

#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_the_key_value_store_measures_and_prints_everything() {
    let measured = kv::run(Size::SMALL).await.unwrap();
    let text = measured.to_string();
    println!("{text}");
    for part in ["1. set -> event", "2. throughput, 1 writer", "2. throughput, 64 writers", "3. what the flush costs"] {
        assert!(text.contains(part), "{part}");
    }
    for part in ["4. 64 writers on one store", "5. a stalled subscriber"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("NaN") && !text.contains("inf"), "every figure was taken");
    let Size { turns, latency, .. } = measured.size;
    assert!(text.contains(&format!("(n = {})", turns * latency)), "every write was followed");
    for bursts in [&measured.one.ours, &measured.many.ours] {
        assert_eq!(bursts.missing(), 0, "nothing of ours is lost");
        assert!(bursts.acknowledged() > 0.0 && bursts.everywhere() > 0.0);
    }
    assert!(measured.many.ours.slowest_writer() >= 1.0 && measured.many.ours.slowest_write() >= 1.0);
}
