//! A vending machine and its manager: nobody polls.
//!
//! The machine reports its stock and its balance; the manager sets prices; each watches what the other
//! writes. At the end it says how long a change took to be seen at the other side.
//!
//! `cargo run --release --example vending`

use std::time::{Duration, Instant};

use groundswell::{KvEvent, KvFilter, Machine, Manager};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many cans are sold.
const SALES: u32 = 200;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Each would be a device of its own, with its data in a directory that stays.
    let (machine_dir, manager_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let loopback = "127.0.0.1:0".parse()?;
    let machine = Machine::builder().data_dir(machine_dir.path()).offline().bind(loopback).spawn().await?;
    let manager = Manager::builder().data_dir(manager_dir.path()).offline().bind(loopback).spawn().await?;

    // The machine's button was pressed: for two minutes a manager may claim it. This one has the machine's ticket from a QR
    // code. Both show the PIN; both persons confirm.
    machine.open_claims(Duration::from_secs(120));
    let claim = manager.begin_claim(&machine.ticket()).await?;
    println!("the manager shows {}", claim.pin);
    let (pin, answer) = machine.await_next_incoming_claim_request().await.ok_or("the machine is shut down")?;
    println!("the machine shows {pin}");
    answer.send(true).map_err(|_| "the claim is over")?;
    let id = claim.answer(true).await?;

    // The machine follows its prices.
    let prices = machine.subscribe_kv_entries(KvFilter::prefix("price/")).await?;
    let follower = tokio::spawn(async move {
        let mut prices = prices;
        while let Some(update) = prices.next().await {
            if let KvEvent::Put(entry) = update.event {
                println!("the machine: {} is {} now", entry.key, String::from_utf8_lossy(&entry.value));
                return;
            }
        }
    });
    manager.set_kv_value(id, "price/cola", "250").await?;
    tokio::time::timeout(Duration::from_secs(10), follower).await??;

    // The manager follows everything, of all machines.
    let mut stock = manager.watch_kv_key(id, "stock/cola").await?;
    let mut times = Vec::new();
    for sold in 1..=SALES {
        let begun = Instant::now();
        machine.set_kv_value("stock/cola", (SALES - sold).to_string()).await?;
        while let Some(update) = stock.next().await {
            if let KvEvent::Put(entry) = update.event
                && entry.value == (SALES - sold).to_string()
            {
                break;
            }
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "{SALES} sales; from the beginning of the write to the event, durable on both sides: p50 {p50:?}, p99 {p99:?}"
    );
    println!("polls: none");

    machine.shutdown().await?;
    manager.shutdown().await?;
    Ok(())
}
