use isobar_store::Tx;

async fn read(tx: &mut Tx) {
    let _ = tx.rows("SELECT * FROM variable", Vec::new()).await;
}

fn main() {}
