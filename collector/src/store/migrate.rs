//! Applies `schema/*.sql` once each, in order, and makes sure that the tables are those that we write.

use sha2::{Digest as _, Sha256};
use tracing::info;

use super::{Store, StoreError, insert::columns_written};
use crate::model::hex;

/// A file of `schema/`.
#[derive(Debug)]
struct Migration {
    number: u32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            number: $number,
            name: $name,
            sql: include_str!(concat!("../../schema/", $name)),
        }),*]
    };
}

/// All migrations. A merged one never changes; the next thought is the next number.
static MIGRATIONS: &[Migration] = migrations![
    1 "0001_schema_migrations.sql",
    2 "0002_process_samples.sql",
    3 "0003_process_exits.sql",
    4 "0004_processes.sql",
    5 "0005_host_samples.sql",
    6 "0006_agents.sql",
    7 "0007_set_aside.sql",
    8 "0008_process_samples_more.sql",
    9 "0009_process_exits_more.sql",
    10 "0010_host_samples_cost.sql",
    11 "0011_leases.sql",
    12 "0012_process_samples_1m.sql",
    13 "0013_host_samples_1m.sql",
    14 "0014_process_samples_1h.sql",
    15 "0015_host_samples_1h.sql",
    16 "0016_host_samples_windows.sql",
    17 "0017_host_samples_minutes.sql",
    18 "0018_host_samples_hours.sql",
    19 "0019_group_peaks_1m.sql",
    20 "0020_group_peaks_1h.sql",
    21 "0021_top_processes.sql",
    22 "0022_top_commands.sql",
    23 "0023_process_history.sql",
    24 "0024_exited_processes.sql",
    25 "0025_host_audit.sql",
    26 "0026_host_usage.sql",
    27 "0027_process_samples_pod.sql",
    28 "0028_process_exits_pod.sql",
    29 "0029_processes_pod.sql",
    30 "0030_process_samples_1m_pod.sql",
    31 "0031_process_samples_1h_pod.sql",
    32 "0032_group_peaks_1m_pod.sql",
    33 "0033_group_peaks_1h_pod.sql",
    34 "0034_group_peaks_1m_no_pod.sql",
    35 "0035_group_peaks_1h_no_pod.sql",
    36 "0036_top_processes_pod.sql",
    37 "0037_exited_processes_pod.sql",
    38 "0038_host_samples_1m_newest.sql",
    39 "0039_host_samples_1h_newest.sql",
    40 "0040_host_coverage.sql",
    41 "0041_process_history.sql",
    42 "0042_group_samples_1m.sql",
    43 "0043_group_samples_1h.sql",
    44 "0044_host_samples_1m_sums.sql",
    45 "0045_host_samples_1h_sums.sql",
];

impl Migration {
    /// SHA-256 of the file, in hex.
    fn checksum(&self) -> String {
        hex(&Sha256::digest(self.sql))
    }
}

/// How a database stands to the migrations of this collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Files that were applied.
    pub applied: Vec<String>,
    /// Files that are still to be applied, in order.
    pub missing: Vec<String>,
}

#[derive(Debug, clickhouse::Row, serde::Deserialize)]
struct AppliedRow {
    number: u32,
    file: String,
    checksums: Vec<String>,
}

#[derive(Debug, clickhouse::Row, serde::Deserialize)]
struct ColumnRow {
    table: String,
    name: String,
    r#type: String,
}

impl Store {
    /// Creates the database if it is missing and applies what was not applied; gives the names of the files that
    /// were.
    ///
    /// # Errors
    /// When the store does not answer or refuses a statement, or when an applied file has another checksum than ours.
    pub async fn migrate(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let what = "CREATE DATABASE";
        self.server
            .query_raw(include_str!("../../queries/create_database.sql"))
            .param("database", &self.database)
            .execute()
            .await
            .map_err(|error| StoreError::new(what, error))?;
        let standing = self.standing().await?;
        for migration in MIGRATIONS
            .iter()
            .filter(|migration| standing.missing.iter().any(|m| m == migration.name))
        {
            self.client
                .query_raw(migration.sql)
                .execute()
                .await
                .map_err(|error| StoreError::new(migration.name, error))?;
            self.client
                .query_raw(include_str!("../../queries/record_migration.sql"))
                .param("number", migration.number)
                .param("name", migration.name)
                .param("checksum", migration.checksum())
                .param("applied_at_ms", now_ms)
                .execute()
                .await
                .map_err(|error| StoreError::new("schema_migrations", error))?;
            info!(migration = migration.name, "applied");
        }
        Ok(standing.missing)
    }

    /// Compares what was applied with what we have; changes nothing.
    ///
    /// # Errors
    /// When the store does not answer, or when an applied file has another checksum than ours.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        let tables = self.columns().await?;
        let applied = if tables.iter().any(|column| column.table == "schema_migrations") {
            self.client
                .query_raw(include_str!("../../queries/applied_migrations.sql"))
                .fetch_all::<AppliedRow>()
                .await
                .map_err(|error| StoreError::new("applied_migrations", error))?
        } else {
            Vec::new()
        };
        compare(&applied)
    }

    /// Makes sure that every column we write is there with its type: the store drops unknown columns of a block
    /// without a word.
    ///
    /// # Errors
    /// When the store does not answer, or a column is missing or of another type.
    pub async fn check_columns(&self) -> Result<(), StoreError> {
        let columns = self.columns().await?;
        for (table, written) in columns_written() {
            for (name, kind) in written {
                let column = columns
                    .iter()
                    .find(|column| column.table == table && column.name == name);
                match column {
                    Some(column) if column.r#type == kind => {}
                    Some(column) => {
                        return Err(StoreError::Schema {
                            fact: format!(
                                "column {table}.{name} is {} in the store but this collector writes {kind}",
                                column.r#type
                            ),
                            remedy: "undo the change, or run the collector that made it".to_owned(),
                        });
                    }
                    None => {
                        return Err(StoreError::Schema {
                            fact: format!("column {table}.{name} is missing in the store"),
                            remedy: format!("add it again: ALTER TABLE {table} ADD COLUMN {name} {kind}"),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    async fn columns(&self) -> Result<Vec<ColumnRow>, StoreError> {
        self.server
            .query_raw(include_str!("../../queries/tables.sql"))
            .param("database", &self.database)
            .fetch_all::<ColumnRow>()
            .await
            .map_err(|error| StoreError::new("system.columns", error))
    }
}

fn compare(applied: &[AppliedRow]) -> Result<Standing, StoreError> {
    let mut standing = Standing {
        applied: Vec::new(),
        missing: Vec::new(),
    };
    for migration in MIGRATIONS {
        let name = migration.name.to_owned();
        let Some(row) = applied.iter().find(|row| row.number == migration.number) else {
            standing.missing.push(name);
            continue;
        };
        let ours = migration.checksum();
        if row.checksums.iter().any(|theirs| *theirs != ours) {
            return Err(StoreError::Schema {
                fact: format!(
                    "migration {name} was applied to this database with another text (checksum {}, ours {ours})",
                    row.checksums.join(" and "),
                ),
                remedy: "run the collector that belongs to the database, or give this one another with --store-database"
                    .to_owned(),
            });
        }
        standing.applied.push(name);
    }
    for row in applied
        .iter()
        .filter(|row| MIGRATIONS.iter().all(|migration| migration.number != row.number))
    {
        // A newer collector was here. What it added does not disturb us; `check_columns` has the last word.
        info!(migration = row.file, "the database knows a newer migration");
    }
    Ok(standing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32, checksum: &str) -> AppliedRow {
        AppliedRow {
            number,
            file: String::new(),
            checksums: vec![checksum.to_owned()],
        }
    }

    #[test]
    fn numbers_are_those_of_the_files_and_rise_by_one() {
        for (number, migration) in (1..).zip(MIGRATIONS) {
            assert_eq!(migration.number, number);
            assert!(
                migration.name.starts_with(&format!("{number:04}_")),
                "{}",
                migration.name
            );
            assert!(
                migration.sql.starts_with("-- "),
                "{} opens with its reasons",
                migration.name
            );
        }
    }

    #[test]
    fn every_file_of_the_folder_is_a_migration() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/schema"))
            .unwrap()
            .count();
        assert_eq!(files, MIGRATIONS.len());
    }

    #[test]
    fn a_merged_migration_never_changes() {
        let merged = [
            "f50b2f74ba92004b7e11634d4689f70393652a804f758e0a803ccd184c9ca505",
            "692c2d15f6c99d96f09506f0fc21feaba0d19ceb3a85893fd321918eda1fad7d",
            "5b4d2f444841af13927b10dda94a110182a6e1630b6387928de0db4adcdb63c9",
            "ca2d6247c8e085d328cc17caef05cb079e6d2389686a7717f8db6f04ca4d2010",
            "68a265b42f93a08d909a11b2d032052baca94379fda8d95d78be10f267b2f194",
            "2efe94a732661192e8fce45676bd8936fb87d2391edbee9f2940be2b43a381aa",
            "7f60af884bc74ed37dc156406465220e6bd4cc3c5286f75723cf1a6ac77deaf2",
            "ea77759e3ec033cdd837450d2ee8a35cef473df5110691fea7ec1e75945453ea",
            "b71d192872ef4442e4f173a62523bc1a087bce45988df25447cac537e1b31932",
            "85a1c01b808b474db8aca3677344217cc7c839c093aa3102f4793416ee2ba175",
            "c4b08cc6740a3cea0f73bbc755284732cc88f7c5c0fab4cc78411a9b6275ee64",
            "cde9cd0fdbce2898ee41690604ce6b170c5bfa4356b487776dbd51e6df6f4a3c",
            "7a23f1f158208e9e684fe380bbf4acf3d1b67553565022350f3a265d2f268f0c",
            "7440c37e1ed8acac11447ce1c1a3bccec1790382c2c9a4f6d5dc39f37d21bdf0",
            "14cbd21518d21dd7ed7188e217df8b49cc4f5b9fc35ca48feec21218e8f28484",
            "f03ecb4a65ddc23678b98994a678caa159736714c67dff27f5dfcdbdccd886e4",
            "5e9ab0af6050502a3b2f1761dcb18139c4dcb5920fec00da7c25c350c71c8a44",
            "38c2407bfc654a20c5298862dc2b5f274f67b6d4a478e13a411b429c19c2b102",
            "ea11c7108c37acd10df8a37dd0fef889ee8a32d1e64be962ee2b26fb3afbc27e",
            "e9a3bba54179f1f98d7539132448d90effa9fae5400538405230dd0ebc5f7e0b",
            "732e067fc8ad9ff4130e0c3cd76800bb3d1fa164dcb97572b1e37737cdbb9e14",
            "5c6906bc42704a1a720bf64c298c3d7b2df3a4d45e023221a051588443d1fe14",
            "b0e432770a33401e9e247d062427921fe1453f8d4656f996453d2a034efbfa38",
            "4a1b883d2744789133e79ad092452e7b50288b4bf8808c82f9a6c99784a7ea66",
            "5ab6305b9883de72d85dbf4aec473d63d245bd3da8aecc1321c21c10369c80f0",
            "dbf4d00aea332a7d9c54fa0659a1c9a05be55929a03499dd958cf8582382620b",
            "8f16d0123b273ea655605bb115e2362fc05515508cc70bcea20c826297dbf96e",
            "3986ab806bdcf46e49817e6225be453b0e360af7c87bfcca010d43f1bf0f8ee5",
            "0678809f0a9152e9d7b3262a63d5e9cacea7ab5698e479399657769f0d94d840",
            "eecd64f1ce23cf50a899d4360435318b0e52e85c39f14d7bdae4e1b59d45a0a8",
            "89db6a61bb5ac036ba746460c746f98c5d098e1cfefd3b30d01b5e9c280a61b2",
            "3c7d732a4fc9f1cbe56b57e701efd200f5ff258b0e78541b02bc440f325d3b05",
            "be415473abc0361417d376f7d5ab316afb8bc12f5d49585384fd91e96b050e0a",
            "8bf0aace08fe57f280bd62aaaf4f869924e0ca6488c1fff497042be65e5f22de",
            "f86749e1e51762b60a0c6b359f73405619d91975c1b3d91052cbf3d2cc767677",
            "43f18019cf0abc4e49d75d75369ba52b2436c741bd5b3f42814187c9086bc4cb",
            "de2d87166b19ad62b9b5a7f527eddaa702cea12133b99c5ef0af636eee0d790d",
            "ad0a8bd6d670d1415ba58ae7f9ab77ff7a8f0e9a7bf8f844fe66cc045b300a64",
            "46ef41d54cd8f5666549ae354886ecae63dc183df94d67827baca121c24dcc7e",
            "a06c8482bad38052b2d9860f26aa7903651f687fbc8d0a4fd9cea0d0b703783b",
            "77882d59cf3a3ec88f90eec70eeed5958eeaca7b40dfb88b8c9003a1cbda3634",
            "1f1cbed8bd53019e1db336b57244c6a26fb964f6fa4ad2f73e6d60fa21227ae9",
            "6f2a3c44ffc1caca27dfcca3e943b26c5d64bbe74b84a285fb87a8fa35759256",
            "eb77b669cb20dee36d0816a8b6ee5591f5466910a5d1c8cf4ae805bddde4176d",
            "f9f54e6ff50160254b19eb7fa3cb071f9310f0c3b2fa30e57cddfab8ca859731",
        ];
        for (migration, checksum) in MIGRATIONS.iter().zip(merged) {
            assert_eq!(
                migration.checksum(),
                checksum,
                "{}: write the next migration instead",
                migration.name
            );
        }
        assert_eq!(
            MIGRATIONS.len(),
            merged.len(),
            "add the checksum of the new migration"
        );
    }

    #[test]
    fn what_was_not_applied_is_missing() {
        let standing = compare(&[row(1, &MIGRATIONS[0].checksum())]).unwrap();
        assert_eq!(standing.applied, ["0001_schema_migrations.sql"]);
        assert_eq!(standing.missing.len(), MIGRATIONS.len() - 1);
    }

    #[test]
    fn a_changed_migration_is_refused_by_name() {
        let line = compare(&[row(2, "0000")]).unwrap_err().to_string();
        assert!(line.contains("0002_process_samples.sql"), "{line}");
    }

    #[test]
    fn a_newer_database_is_accepted() {
        assert_eq!(
            compare(&[row(9_999, "?")]).unwrap().missing.len(),
            MIGRATIONS.len()
        );
    }
}
