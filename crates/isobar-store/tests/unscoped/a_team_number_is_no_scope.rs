use isobar_model::{RunKey, TeamId};
use isobar_store::{Tx, runs};

async fn read(tx: &mut Tx, run: &RunKey) {
    let _ = runs::get(tx, TeamId(1), run).await;
}

fn main() {}
