use isobar_model::RunKey;
use isobar_store::{Tx, runs};

async fn read(tx: &mut Tx, run: &RunKey) {
    let _ = runs::get(tx, run).await;
}

fn main() {}
