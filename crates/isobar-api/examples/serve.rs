//! The API over a fresh store with Dags from a file, without any scheduler: what `tools/compare_rest.py` compares with Airflow.
//!
//! `cargo run -p isobar-api --example serve -- PORT FOLDER [DAGS.json] [--teams]`

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plain: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let [port, folder, rest @ ..] = plain.as_slice() else {
        eprintln!("usage: serve PORT FOLDER [DAGS.json] [--teams]");
        std::process::exit(2);
    };
    let dags = rest.first().map_or_else(
        || support::DAGS.to_owned(),
        |path| std::fs::read_to_string(path).expect("a readable file"),
    );
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).expect("a folder that can be made");
    let teams = arguments.iter().any(|argument| argument == "--teams");
    // An empty PostgreSQL database instead of a file in the folder.
    let url = std::env::var("ISOBAR_SERVE_POSTGRES").ok();
    let world = support::World::new(&folder, teams, &dags, url).await;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .expect("a free port");
    println!("listening on {port}");
    axum::serve(listener, isobar_api::router(world.state.clone()))
        .await
        .expect("a server that serves");
}
