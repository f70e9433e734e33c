//! Errors as Atlas tells them: a typed code, its HTTP status and a detail pattern whose `%s` are filled
//! from `parameters`, in order.

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $name:literal $pattern:literal;)*) => {
        /// Every `errorCode` that this server answers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the name and the pattern say it")]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The detail, with one `%s` per parameter.
            pub const fn pattern(self) -> &'static str {
                match self { $(Self::$variant => $pattern,)* }
            }
        }
    };
}

codes! {
    AlreadyExpired = 400 "ALREADY_EXPIRED" "Cannot update an entity that has already expired.";
    AtlasGeneralError = 400 "ATLAS_GENERAL_ERROR" "Reason: %s.";
    AttributeNegativeOrZero = 400 "ATTRIBUTE_NEGATIVE_OR_ZERO" "The attribute %s cannot be negative or zero.";
    BackupCompliancePolicySettingsInvalid = 400 "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID" "The Backup Compliance Policy has invalid settings.";
    BackupPoliciesNotMeetingBackupCompliancePolicyRequirements = 400 "BACKUP_POLICIES_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS" "Backup policies don't meet the minimum Backup Compliance Policy requirements.";
    BackupPolicyNotMeetingBackupCompliancePolicyRequirements = 400 "BACKUP_POLICY_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS" "Backup policy doesn't meet the minimum Backup Compliance Policy requirements.";
    BackupSnapshotRetentionValueInvalid = 400 "BACKUP_SNAPSHOT_RETENTION_VALUE_INVALID" "Retention value of snapshot is invalid.";
    CannotCancelAutomatedRestore = 400 "CANNOT_CANCEL_AUTOMATED_RESTORE" "Automated restore cannot be cancelled.";
    CannotDecreasePitWindowWithBcp = 400 "CANNOT_DECREASE_PIT_WINDOW_WITH_BCP" "You can't reduce the Continuous Cloud Backup Restore Window while you have a Backup Compliance Policy enabled.";
    CannotDecreaseSnapshotRetentionWithBackupCompliancePolicy = 400 "CANNOT_DECREASE_SNAPSHOT_RETENTION_WITH_BACKUP_COMPLIANCE_POLICY" "You can't decrease the snapshot retention while you have a Backup Compliance Policy enabled.";
    CannotDeleteSnapshotWithBackupCompliancePolicy = 400 "CANNOT_DELETE_SNAPSHOT_WITH_BACKUP_COMPLIANCE_POLICY" "You can't delete snapshots while you have a Backup Compliance Policy enabled.";
    /// Spelled as Atlas spells it.
    CannotDisablePitWithBackupCompliancePolicy = 400 "CANNOT_DISABLE_PIT_WITH_BACKUUP_COMPLIANCE_POLICY" "You can't disable Continuous Cloud Backup while you have a Backup Compliance Policy with the Require Point in Time Restore to all clusters option set to On.";
    CannotDeleteInProgressSnapshot = 400 "CANNOT_DELETE_IN_PROGRESS_SNAPSHOT" "Cannot delete an in progress snapshot %s.";
    CannotDownloadSnapshotConcurrently = 400 "CANNOT_DOWNLOAD_SNAPSHOT_CONCURRENTLY" "Cannot create a manual download of a snapshot when there is already an active download for that snapshot.";
    CannotModifyInProgressSnapshotRetention = 400 "CANNOT_MODIFY_IN_PROGRESS_SNAPSHOT_RETENTION" "Snapshot retention can only be modified once it is completed.";
    CannotUseClusterInServerlessInstanceApi = 400 "CANNOT_USE_CLUSTER_IN_SERVERLESS_INSTANCE_API" "Cannot use cluster %s in the serverless instance API.";
    CannotUseNonFlexClusterInFlexApi = 400 "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API" "Cannot use non-flex cluster %s in the flex API.";
    CannotUseServerlessInstanceInClusterApi = 400 "CANNOT_USE_SERVERLESS_INSTANCE_IN_CLUSTER_API" "Cannot use serverless instance %s in the cluster API.";
    ClusterNameInvalid = 400 "CLUSTER_NAME_INVALID" "The cluster name %s is invalid. The name can only contain ASCII letters, numbers, and hyphens.";
    DuplicateClusterName = 400 "DUPLICATE_CLUSTER_NAME" "A cluster named %s is already present in group %s.";
    CollectionNotSearchable = 400 "COLLECTION_NOT_SEARCHABLE" "Documents of %s cannot be looked up.";
    ExportBucketDeleteFailed = 400 "EXPORT_BUCKET_DELETE_FAILED" "Failed to delete the export bucket.";
    ExportBucketNameInvalid = 400 "EXPORT_BUCKET_NAME_INVALID" "The export bucket name %s is invalid.";
    FractionalTimestamp = 400 "FRACTIONAL_TIMESTAMP" "Timestamp must be whole number of seconds.";
    IncorrectBackupApiEndpoint = 400 "INCORRECT_BACKUP_API_ENDPOINT" "Incorrect Public API endpoint for Cloud Backups. Please use the following end point: %s.";
    InvalidAttribute = 400 "INVALID_ATTRIBUTE" "Invalid attribute %s specified.";
    InvalidBackupPolicy = 400 "INVALID_BACKUP_POLICY" "Invalid Backup Policy: %s.";
    InvalidDocumentId = 400 "INVALID_DOCUMENT_ID" "The document ID is invalid.";
    InvalidEnumValue = 400 "INVALID_ENUM_VALUE" "An invalid enumeration value %s was specified.";
    InvalidFrequencyTypeChange = 400 "INVALID_FREQUENCY_TYPE_CHANGE" "The frequency type of a policy item must not be changed.";
    InvalidJsonAttribute = 400 "INVALID_JSON_ATTRIBUTE" "Received JSON for the %s attribute does not match expected format.";
    InvalidNumOfPolicies = 400 "INVALID_NUM_OF_POLICIES" "Must have exactly one policy.";
    InvalidNumOfPolicyItems = 400 "INVALID_NUM_OF_POLICY_ITEMS" "Must have at least one policy item.";
    InvalidPitRestoreTime = 400 "INVALID_PIT_RESTORE_TIME" "Please provide a valid UTC time or an operation time (ts).";
    InvalidPolicyId = 400 "INVALID_POLICY_ID" "The policy id %s is invalid.";
    InvalidPolicyItemId = 400 "INVALID_POLICY_ITEM_ID" "The specified policy item id %s does not exist.";
    InvalidReferenceHourOfDay = 400 "INVALID_REFERENCE_HOUR_OF_DAY" "Snapshot schedule reference hour must be between 0 and 23, inclusive.";
    InvalidReferenceMinuteOfHour = 400 "INVALID_REFERENCE_MINUTE_OF_HOUR" "Snapshot schedule reference minute must be between 0 and 59, inclusive.";
    InvalidRestoreWindow = 400 "INVALID_RESTORE_WINDOW" "The restore window days should be a positive number.";
    InvalidQueryParameter = 400 "INVALID_QUERY_PARAMETER" "Invalid query parameter %s specified.";
    MalformedJson = 400 "MALFORMED_JSON" "Received JSON is malformed.";
    MalformedRequest = 400 "MALFORMED_REQUEST" "The request could not be read: %s.";
    MissingAttribute = 400 "MISSING_ATTRIBUTE" "The required attribute %s was not specified.";
    MissingOneOfAttributes = 400 "MISSING_ONE_OF_ATTRIBUTES" "Either the %s attribute or the %s attribute must be specified.";
    MissingPolicyItemParameters = 400 "MISSING_POLICY_ITEM_PARAMETERS" "Each policy item must contain all required fields.";
    MissingQueryParameter = 400 "MISSING_QUERY_PARAMETER" "The required query parameter %s was not specified.";
    MutuallyExclusiveQueryParameters = 400 "MUTUALLY_EXCLUSIVE_QUERY_PARAMETERS" "Either the %s query parameter or the %s query parameter but not both should be specified.";
    ProviderBackupNotSupported = 400 "PROVIDER_BACKUP_NOT_SUPPORTED" "Provider snapshot backups are not supported for this type of provider.";
    SnapshotRetentionLessThanBackupCompliancePolicy = 400 "SNAPSHOT_RETENTION_LESS_THAN_BACKUP_COMPLIANCE_POLICY" "The snapshot retention is less than the minimum that the Backup Compliance Policy requires.";
    TooManySnapshotDownloads = 400 "TOO_MANY_SNAPSHOT_DOWNLOADS" "Cannot create a manual download of a snapshot when the project is at its limit for active downloads.";
    UnfinishedOnDemandSnapshot = 400 "UNFINISHED_ON_DEMAND_SNAPSHOT" "Another on-demand snapshot is queued or in progress.";
    ValidationError = 400 "VALIDATION_ERROR" "The request content produced the validation error: %s.";
    CannotSetPointInTimeWindow = 400 "CANNOT_SET_POINT_IN_TIME_WINDOW" "Setting the point in time window is not allowed.";
    CannotUseFlexClusterInClusterApi = 400 "CANNOT_USE_FLEX_CLUSTER_IN_CLUSTER_API" "Cannot use flex cluster %s in the cluster API.";
    CheckpointRestoreUnsupportedForReplicaSets = 400 "CHECKPOINT_RESTORE_UNSUPPORTED_FOR_REPLICA_SETS" "Checkpoint restores are not supported for replica sets.";
    /// Spelled as Atlas spells it.
    CheckpointsOnlyOnContinuousBackup = 400 "CHECKPOINTS_ONLY_ON_CONTINOUS_BACKUP" "Checkpoints are only available on clusters with continuous backup.";
    InvalidClusterCheckpointInterval = 400 "INVALID_CLUSTER_CHECKPOINT_INTERVAL" "The cluster checkpoint interval %s is invalid.";
    InvalidDateFormat = 400 "INVALID_DATE_FORMAT" "The date %s is not in ISO 8601 format.";
    InvalidDeliveryScp = 400 "INVALID_DELIVERY_SCP" "Restores are not delivered by SCP.";
    InvalidSnapshotSchedule = 400 "INVALID_SNAPSHOT_SCHEDULE" "The snapshot schedule is invalid: %s.";
    LegacyPitRestoreUnsupported = 400 "LEGACY_PIT_RESTORE_UNSUPPORTED" "Restores to a point in time on the side of the client are not supported.";
    MissingOneOfManyAttributes = 400 "MISSING_ONE_OF_MANY_ATTRIBUTES" "One of the attributes %s must be specified.";
    UnsupportedDeliveryMethod = 400 "UNSUPPORTED_DELIVERY_METHOD" "The delivery method %s is not supported.";
    Unauthorized = 401 "UNEXPECTED_ERROR" "You are not authorized for this resource.";
    UserCannotAccessGroup = 401 "USER_CANNOT_ACCESS_GROUP" "User cannot access this group.";
    UserCannotAccessOrg = 401 "USER_CANNOT_ACCESS_ORG" "User cannot access this organization.";
    AccessForbidden = 403 "ACCESS_FORBIDDEN" "Access to this resource is forbidden for current user.";
    IpAddressNotOnAccessList = 403 "IP_ADDRESS_NOT_ON_ACCESS_LIST" "IP address %s is not allowed to access this resource.";
    ResourceRequiresAccessList = 403 "RESOURCE_REQUIRES_ACCESS_LIST" "This resource requires access through an access list of ip ranges.";
    CannotModifySnapshot = 403 "CANNOT_MODIFY_SNAPSHOT" "Cannot modify snapshot %s.";
    CannotRestoreToTarget = 403 "CANNOT_RESTORE_TO_TARGET" "Cannot restore with insufficient permission on source snapshot or target cluster.";
    UnsupportedForCurrentConfig = 403 "UNSUPPORTED_FOR_CURRENT_CONFIG" "Operation not supported for current configuration.";
    AccessListEntryNotFound = 404 "ACCESS_LIST_ENTRY_NOT_FOUND" "IP address %s is not on the access list.";
    ServiceAccountSecretNotFound = 404 "SERVICE_ACCOUNT_SECRET_NOT_FOUND" "The service account has no secret with ID %s.";
    ServiceAccountNotFound = 404 "SERVICE_ACCOUNT_NOT_FOUND" "No service account with client ID %s exists.";
    ClusterNotFound = 404 "CLUSTER_NOT_FOUND" "No cluster named %s exists in group %s.";
    CollectionNotFound = 404 "COLLECTION_NOT_FOUND" "No collection %s existed in cluster %s %s.";
    DatabaseNotFound = 404 "DATABASE_NOT_FOUND" "No database %s existed in snapshot %s.";
    DocumentNotFound = 404 "DOCUMENT_NOT_FOUND" "No document with the _id %s existed in %s %s.";
    /// Worded as Atlas words it.
    ExportBucketNotFound = 404 "EXPORT_BUCKET_NOT_FOUND" "No export Bucket with ID %s does not exist.";
    GroupNameNotFound = 404 "GROUP_NAME_NOT_FOUND" "No group with name \"%s\" exists.";
    GroupNotFound = 404 "GROUP_NOT_FOUND" "No group with ID %s exists.";
    InvalidGroupId = 404 "INVALID_GROUP_ID" "An invalid group ID %s was specified.";
    InvalidJobId = 404 "INVALID_JOB_ID" "An invalid restore job ID %s was specified.";
    InvalidKeyId = 404 "INVALID_KEY_ID" "An invalid key ID %s was specified.";
    InvalidOrgId = 404 "INVALID_ORG_ID" "An invalid organization ID %s was specified.";
    InvalidSnapshotId = 404 "INVALID_SNAPSHOT_ID" "An invalid snapshot ID %s was specified.";
    KeyNotFound = 404 "API_KEY_NOT_FOUND" "No API key with ID %s exists.";
    OrgNotFound = 404 "ORG_NOT_FOUND" "No organization with ID %s exists.";
    ResourceNotFound = 404 "RESOURCE_NOT_FOUND" "Cannot find resource %s.";
    RestoreJobNotFound = 404 "RESTORE_JOB_NOT_FOUND" "No restore job with ID %s exists for cluster %s.";
    ServerlessInstanceNotFound = 404 "SERVERLESS_INSTANCE_NOT_FOUND" "No serverless instance named %s exists in group %s.";
    SnapshotNotFound = 404 "SNAPSHOT_NOT_FOUND" "No snapshot with ID %s exists for cluster %s.";
    /// Spelled with a zero, as Atlas spells it.
    UnableToFindSnapshotPriorToPitRestoreOptime = 404 "UNABLE_T0_FIND_SNAPSHOT_PRIOR_TO_PIT_RESTORE_OPTIME" "Unable to find snapshot prior to pit restore optime.";
    BackupConfigNotFound = 404 "BACKUP_CONFIG_NOT_FOUND" "No backup configuration exists for cluster %s in group %s.";
    CheckpointNotFound = 404 "CHECKPOINT_NOT_FOUND" "No checkpoint with ID %s exists for cluster %s.";
    InvalidCheckpointId = 404 "INVALID_CHECKPOINT_ID" "An invalid checkpoint ID %s was specified.";
    InvalidClusterId = 404 "INVALID_CLUSTER_ID" "An invalid cluster ID %s was specified.";
    TenantRestoreNotFound = 404 "TENANT_RESTORE_NOT_FOUND" "No Flex restore with ID %s exists for cluster %s.";
    TenantSnapshotNotFound = 404 "TENANT_SNAPSHOT_NOT_FOUND" "No Flex snapshot with ID %s exists for cluster %s.";
    CancelShardRestoreJobNotAllowed = 405 "ATLAS_BACKUP_CANCEL_SHARD_RESTORE_JOB_NOT_ALLOWED" "Cannot cancel a restore job of an individual shard. Please cancel the entire sharded cluster restore job.";
    MethodNotAllowed = 405 "METHOD_NOT_ALLOWED" "Method %s is not allowed for resource %s.";
    InvalidVersionDate = 406 "INVALID_VERSION_DATE" "Invalid accept header or version date.";
    RequestTimeout = 408 "REQUEST_TIMEOUT" "The request body did not arrive in time.";
    CannotCloseGroupActiveClusters = 409 "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS" "Cannot close group while it has active clusters; please terminate all clusters.";
    CannotDownloadIncompleteSnapshot = 409 "CANNOT_DOWNLOAD_INCOMPLETE_SNAPSHOT" "Cannot download incomplete cluster snapshot.";
    CannotStartRestoreJobForDeletedSnapshot = 409 "CANNOT_START_RESTORE_JOB_FOR_DELETED_SNAPSHOT" "Cannot start restore job for deleted snapshot.";
    CannotStartRestoreJobForIncompleteSnapshot = 409 "CANNOT_START_RESTORE_JOB_FOR_INCOMPLETE_CLUSTER_SNAPSHOT" "Cannot start restore job for incomplete cluster snapshot.";
    ClusterRestoreInProgress = 409 "ATLAS_CLUSTER_RESTORE_IN_PROGRESS" "Cluster restore already in progress.";
    GroupAlreadyExists = 409 "GROUP_ALREADY_EXISTS" "A group with name \"%s\" already exists.";
    InvalidRestoreProcess = 409 "INVALID_RESTORE_PROCESS" "Process is not valid for automated restore.";
    ResourceBusy = 409 "RESOURCE_BUSY" "The resource is in use: %s.";
    StateNotKnown = 409 "STATE_NOT_KNOWN" "The state that was asked for cannot be computed.";
    CannotDownloadExpiredJob = 410 "CANNOT_DOWNLOAD_EXPIRED_JOB" "Cannot download job %s, as it has expired and the data has been deleted.";
    VersionGone = 410 "VERSION_GONE" "Version %s of %s is no longer available.";
    PayloadTooLarge = 413 "PAYLOAD_TOO_LARGE" "The request body exceeds %s bytes.";
    UnsupportedMediaType = 415 "UNSUPPORTED_MEDIA_TYPE" "The content type %s is not supported; send application/json.";
    RangeNotSatisfiable = 416 "RANGE_NOT_SATISFIABLE" "The range %s lies outside the %s bytes of the archive.";
    RateLimited = 429 "RATE_LIMITED_TOKEN_BUCKET" "Rate limit exceeded for %s. Please retry after %s seconds. Request capacity: %s. Refill rate: %s per %s seconds.";
    UnexpectedError = 500 "UNEXPECTED_ERROR" "Unexpected error.";
    ServiceUnavailable = 503 "SERVICE_UNAVAILABLE" "The service is unavailable for the moment: %s.";
}

/// One error answer.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    parameters: Vec<Value>,
    explanation: Option<String>,
    fields: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a handler gives back.
pub(crate) type Answer<T> = Result<T, Problem>;

impl Problem {
    /// An error whose pattern has no parameters, or whose parameters follow with [`Problem::with`].
    pub fn new(code: Code) -> Self {
        Self { code, parameters: Vec::new(), explanation: None, fields: Vec::new(), headers: Vec::new() }
    }

    /// Fills the next `%s`.
    #[must_use]
    pub fn with(mut self, parameter: impl Into<Value>) -> Self {
        self.parameters.push(parameter.into());
        self
    }

    /// Says more than the pattern of the code does, in whole sentences after it.
    #[must_use]
    pub fn because(mut self, explanation: impl Into<String>) -> Self {
        self.explanation = Some(explanation.into());
        self
    }

    /// Says what is wrong with a field of the request (`badRequestDetail`).
    #[must_use]
    pub fn field(mut self, field: &str, description: &str) -> Self {
        self.fields.push(json!({"description": description, "field": field}));
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A fault of ours: logged here, where it is handled, and told without its details.
    pub fn internal(context: &str, cause: &dyn std::error::Error) -> Self {
        tracing::error!(context, error = %chain(cause), "a request failed");
        Self::new(Code::UnexpectedError)
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Extra headers.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The sentence for people.
    pub fn detail(&self) -> String {
        let mut detail = String::new();
        let mut parameters = self.parameters.iter();
        let mut pieces = self.code.pattern().split("%s");
        detail.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            match parameters.next() {
                Some(Value::String(text)) => detail.push_str(text),
                Some(other) => detail.push_str(&other.to_string()),
                None => detail.push_str("%s"),
            }
            detail.push_str(piece);
        }
        if let Some(explanation) = &self.explanation {
            detail.push(' ');
            detail.push_str(explanation);
        }
        detail
    }

    /// The body.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "detail": self.detail(),
            "error": self.code.status(),
            "errorCode": self.code.as_str(),
            "parameters": self.parameters,
            "reason": self.status().canonical_reason().unwrap_or("Error"),
        });
        if !self.fields.is_empty() {
            body["badRequestDetail"] = json!({"fields": self.fields});
        }
        body
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_recorded_one() {
        let problem = Problem::new(Code::ClusterNotFound).with("c1").with("32b6e34b3d91647abb20e7b8");
        let body = crate::json::write(&problem.body(), crate::json::Layout::Compact);
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"detail":"No cluster named c1 exists in group 32b6e34b3d91647abb20e7b8.","error":404,"errorCode":"CLUSTER_NOT_FOUND","parameters":["c1","32b6e34b3d91647abb20e7b8"],"reason":"Not Found"}"#
        );
    }

    #[test]
    fn every_code_has_a_real_status_and_a_well_formed_name() {
        for code in Code::ALL {
            assert!(
                StatusCode::from_u16(code.status()).is_ok_and(|s| s.canonical_reason().is_some()),
                "{code:?}"
            );
            assert!(
                code.as_str().chars().all(|c| c.is_ascii_uppercase() || matches!(c, '_' | '0')),
                "{code:?}"
            );
            assert!(!code.pattern().is_empty());
        }
    }

    #[test]
    fn the_reason_of_406_and_429_is_the_recorded_one() {
        assert_eq!(Problem::new(Code::InvalidVersionDate).body()["reason"], "Not Acceptable");
        assert_eq!(Problem::new(Code::RateLimited).body()["reason"], "Too Many Requests");
    }

    #[test]
    fn an_explanation_follows_the_pattern_and_is_none() {
        let problem = Problem::new(Code::InvalidPitRestoreTime).because("It is 100 %s wrong.").with("unused");
        assert_eq!(
            problem.detail(),
            "Please provide a valid UTC time or an operation time (ts). It is 100 %s wrong."
        );
    }

    #[test]
    fn a_parameter_is_never_taken_for_a_pattern() {
        let problem = Problem::new(Code::ClusterNotFound).with("%s").with("g");
        assert_eq!(problem.detail(), "No cluster named %s exists in group g.");
    }
}
