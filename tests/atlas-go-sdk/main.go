// A conformance drive of an Ebbtide server by the official Atlas Go SDK: every operation of the five seed pages and
// those around them, by digest or by OAuth, ending with exit code 0 or the first thing that was not as the contract says.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"go.mongodb.org/atlas-sdk/v20250312006/admin"
)

// How long a job on a small data set may take before the drive calls it stuck.
const jobPatience = 3 * time.Minute

type drive struct {
	ctx        context.Context
	sdk        *admin.APIClient
	group      string
	cluster    string
	serverless string
}

func main() {
	d := drive{ctx: context.Background(), group: env("EBBTIDE_GROUP"), cluster: env("EBBTIDE_CLUSTER"), serverless: os.Getenv("EBBTIDE_SERVERLESS")}
	base := admin.UseBaseURL(env("EBBTIDE_URL"))
	var err error
	if id := os.Getenv("MONGODB_ATLAS_CLIENT_ID"); id != "" {
		d.sdk, err = admin.NewClient(base, admin.UseOAuthAuth(d.ctx, id, env("MONGODB_ATLAS_CLIENT_SECRET")))
	} else {
		d.sdk, err = admin.NewClient(base, admin.UseDigestAuth(env("MONGODB_ATLAS_PUBLIC_API_KEY"), env("MONGODB_ATLAS_PRIVATE_API_KEY")))
	}
	must(err, "make the client")
	d.surroundings()
	d.schedule()
	snapshot := d.snapshot()
	d.automated(snapshot)
	d.collections(snapshot)
	d.download(snapshot)
	if place := os.Getenv("EBBTIDE_EXPORTS"); place != "" {
		d.exports(snapshot, place)
	}
	d.lists()
	d.retentionAndDelete(snapshot)
	if d.serverless != "" {
		d.serverlessJobs()
	}
	fmt.Println("the Atlas Go SDK is content")
}

func (d drive) surroundings() {
	_, _, err := d.sdk.RootApi.GetSystemStatus(d.ctx).Execute()
	must(err, "read the root")
	group, _, err := d.sdk.ProjectsApi.GetProject(d.ctx, d.group).Execute()
	must(err, "get the project")
	check(group.GetId() == d.group, "the project has the id that was asked for")
	same := admin.GroupUpdate{Name: &group.Name}
	group, _, err = d.sdk.ProjectsApi.UpdateProject(d.ctx, d.group, &same).Execute()
	must(err, "give the project the name that it has")
	check(group.Name == same.GetName(), "the project is called as it was")
	response, err := d.sdk.ProjectsApi.DeleteProject(d.ctx, d.group).Execute()
	refused(response, err, http.StatusConflict, "CANNOT_CLOSE_GROUP_ACTIVE_ATLAS_CLUSTERS")
	cluster, _, err := d.sdk.ClustersApi.GetCluster(d.ctx, d.group, d.cluster).Execute()
	must(err, "get the cluster")
	check(cluster.GetStateName() == "IDLE", "the cluster is idle, not "+cluster.GetStateName())
	_, response, err = d.sdk.CloudBackupsApi.GetBackupRestoreJob(d.ctx, d.group, d.cluster, "0123456789abcdef01234567").Execute()
	refused(response, err, http.StatusNotFound, "RESTORE_JOB_NOT_FOUND")
}

func (d drive) schedule() {
	shown, _, err := d.sdk.CloudBackupsApi.GetBackupSchedule(d.ctx, d.group, d.cluster).Execute()
	must(err, "get the schedule")
	policies := shown.GetPolicies()
	check(len(policies) == 1 && len(policies[0].GetPolicyItems()) == 0, "one policy, and nothing in it by itself")
	policies[0].SetPolicyItems([]admin.DiskBackupApiPolicyItem{
		{FrequencyType: "daily", FrequencyInterval: 1, RetentionUnit: "days", RetentionValue: 7},
		{FrequencyType: "monthly", FrequencyInterval: 40, RetentionUnit: "months", RetentionValue: 12},
	})
	wanted := admin.DiskBackupSnapshotSchedule20240805{Policies: &policies, ReferenceHourOfDay: admin.PtrInt(3), UpdateSnapshots: admin.PtrBool(true)}
	longer := []admin.ExtraRetentionSetting{{FrequencyType: admin.PtrString("MONTHLY"), RetentionDays: admin.PtrInt(30)}}
	wanted.ExtraRetentionSettings = &longer
	set, _, err := d.sdk.CloudBackupsApi.UpdateBackupSchedule(d.ctx, d.group, d.cluster, &wanted).Execute()
	must(err, "set the schedule")
	check(len(set.GetExtraRetentionSettings()) == 1 && set.GetExtraRetentionSettings()[0].GetRetentionDays() == 30, "monthly ones are kept longer")
	items := set.GetPolicies()[0].GetPolicyItems()
	check(len(items) == 2 && items[0].GetId() != "" && set.NextSnapshot != nil, "the items have ids, and the next snapshot a time")
	_, _, err = d.sdk.CloudBackupsApi.UpdateBackupSchedule(d.ctx, d.group, d.cluster, set).Execute()
	must(err, "send back what was shown")
	unknown := "0123456789abcdef01234567"
	wanted.Policies = &[]admin.AdvancedDiskBackupSnapshotSchedulePolicy{{Id: &unknown, PolicyItems: &items}}
	_, response, err := d.sdk.CloudBackupsApi.UpdateBackupSchedule(d.ctx, d.group, d.cluster, &wanted).Execute()
	refused(response, err, http.StatusBadRequest, "INVALID_POLICY_ID")
	deleted, _, err := d.sdk.CloudBackupsApi.DeleteAllBackupSchedules(d.ctx, d.group, d.cluster).Execute()
	must(err, "delete the schedule")
	check(len(deleted.GetPolicies()[0].GetPolicyItems()) == 0 && deleted.NextSnapshot == nil, "nothing is left of it")
}

func (d drive) exports(snapshot, place string) {
	role := "0123456789abcdef01234567"
	api := d.sdk.CloudBackupsApi
	wanted := admin.DiskBackupSnapshotExportBucketRequest{CloudProvider: "AWS", BucketName: &place, IamRoleId: &role}
	bucket, _, err := api.CreateExportBucket(d.ctx, d.group, &wanted).Execute()
	must(err, "register an export bucket")
	check(bucket.GetId() != "" && bucket.GetBucketName() == place && bucket.GetIamRoleId() == role, "the bucket is the one that was asked for")
	_, _, err = api.GetExportBucket(d.ctx, d.group, bucket.GetId()).Execute()
	must(err, "get the export bucket")
	listed, _, err := api.ListExportBuckets(d.ctx, d.group).Execute()
	must(err, "list export buckets")
	check(len(listed.GetResults()) == 1, "one bucket is listed")
	wanted.BucketName = admin.PtrString("not-configured")
	_, response, err := api.CreateExportBucket(d.ctx, d.group, &wanted).Execute()
	refused(response, err, http.StatusBadRequest, "EXPORT_BUCKET_NAME_INVALID")
	data := []admin.BackupLabel{{Key: admin.PtrString("by"), Value: admin.PtrString("the Go SDK")}}
	request := admin.DiskBackupExportJobRequest{SnapshotId: snapshot, ExportBucketId: bucket.GetId(), CustomData: &data}
	job, _, err := api.CreateBackupExportJob(d.ctx, d.group, d.cluster, &request).Execute()
	must(err, "export the snapshot")
	for began := time.Now(); job.GetState() != "Successful"; {
		check(job.GetState() == "Queued" || job.GetState() == "InProgress", "the export goes on, and is not "+job.GetState())
		check(time.Since(began) < jobPatience, "the export ends")
		time.Sleep(200 * time.Millisecond)
		job, _, err = api.GetBackupExportJob(d.ctx, d.group, d.cluster, job.GetId()).Execute()
		must(err, "get the export")
	}
	status := job.GetExportStatus()
	check(status.GetTotalCollections() > 0 && status.GetExportedCollections() == status.GetTotalCollections(), "all collections were exported")
	check(job.GetPrefix() != "" && len(job.GetCustomData()) == 1, "the export tells where its files are")
	exports, _, err := api.ListBackupExportJobs(d.ctx, d.group, d.cluster).Execute()
	must(err, "list exports")
	results := exports.GetResults()
	check(len(results) > 0 && results[0].GetId() == job.GetId(), "the newest export is listed first")
	_, err = api.DeleteExportBucket(d.ctx, d.group, bucket.GetId()).Execute()
	must(err, "delete the export bucket")
}

func (d drive) snapshot() string {
	request := admin.DiskBackupOnDemandSnapshotRequest{Description: admin.PtrString("by the Go SDK"), RetentionInDays: admin.PtrInt(1)}
	taken, _, err := d.sdk.CloudBackupsApi.TakeSnapshot(d.ctx, d.group, d.cluster, &request).Execute()
	must(err, "take a snapshot")
	id := taken.GetId()
	until("snapshot "+id, func() (bool, string) {
		now, _, err := d.sdk.CloudBackupsApi.GetReplicaSetBackup(d.ctx, d.group, d.cluster, id).Execute()
		must(err, "get the snapshot")
		return now.GetStatus() == "completed", now.GetStatus()
	})
	return id
}

func (d drive) automated(snapshot string) {
	job, _, err := d.sdk.CloudBackupsApi.CreateBackupRestoreJob(d.ctx, d.group, d.cluster, &admin.DiskBackupSnapshotRestoreJob{
		DeliveryType: "automated", SnapshotId: &snapshot, TargetClusterName: &d.cluster, TargetGroupId: &d.group,
	}).Execute()
	must(err, "create an automated restore job")
	check(!job.GetFailed() && !job.GetCancelled(), "a new job has neither failed nor been cancelled")
	until("restore job "+job.GetId(), func() (bool, string) {
		now, _, err := d.sdk.CloudBackupsApi.GetBackupRestoreJob(d.ctx, d.group, d.cluster, job.GetId()).Execute()
		must(err, "get the restore job")
		check(!now.GetFailed(), "the restore job does not fail")
		return now.FinishedAt != nil, "running"
	})
	response, err := d.sdk.CloudBackupsApi.CancelBackupRestoreJob(d.ctx, d.group, d.cluster, job.GetId()).Execute()
	refused(response, err, http.StatusBadRequest, "CANNOT_CANCEL_AUTOMATED_RESTORE")
}

// What releases of the SDK after this one have calls for: the calls are made through its client all the same, which
// authenticates and sends them.
func (d drive) collections(snapshot string) {
	type named struct {
		Name string `json:"name"`
	}
	cluster := "/api/atlas/v2/groups/" + d.group + "/clusters/" + d.cluster
	databases := cluster + "/backup/snapshots/" + snapshot + "/databases"
	first := func(path string) string {
		var page struct {
			Results    []named `json:"results"`
			TotalCount int     `json:"totalCount"`
		}
		d.call(http.MethodGet, path, nil, http.StatusOK, &page)
		check(len(page.Results) >= 1 && page.TotalCount == len(page.Results), path+" lists what is there")
		return page.Results[0].Name
	}
	database := first(databases)
	one := databases + "/" + url.PathEscape(database)
	collection := first(one + "/collections")
	var shown named
	d.call(http.MethodGet, one, nil, http.StatusOK, &shown)
	check(shown.Name == database, "a database is shown by its name")
	d.call(http.MethodGet, one+"/collections/"+url.PathEscape(collection), nil, http.StatusOK, &shown)
	check(shown.Name == collection, "a collection is shown by its name")

	namespace := database + "." + collection
	var job struct {
		Id                string `json:"id"`
		State             string `json:"state"`
		ErrorMessage      string `json:"errorMessage"`
		RestoredDocuments int64  `json:"restoredDocuments"`
		TotalDocuments    int64  `json:"totalDocuments"`
	}
	jobs := cluster + "/collectionRestoreJobs"
	d.call(http.MethodPost, jobs, map[string]any{
		"snapshotId": snapshot, "targetClusterName": d.cluster, "targetGroupId": d.group,
		"indexStrategy": "ALL", "writeStrategy": "CREATE_NEW",
		"collections": []any{map[string]any{"sourceNamespace": namespace, "targetNamespace": namespace + "_by_go"}},
	}, http.StatusCreated, &job)
	until("collection restore job "+job.Id, func() (bool, string) {
		d.call(http.MethodGet, jobs+"/"+job.Id, nil, http.StatusOK, &job)
		check(job.State != "FAILED", "the collection restore job does not fail: "+job.ErrorMessage)
		return job.State == "SUCCESSFUL", job.State
	})
	check(job.RestoredDocuments == job.TotalDocuments && job.TotalDocuments > 0, "all documents are restored")
	var states struct {
		Results []struct {
			EffectiveTargetNamespace string `json:"effectiveTargetNamespace"`
			State                    string `json:"state"`
		} `json:"results"`
	}
	d.call(http.MethodGet, jobs+"/"+job.Id+"/collections?state=SUCCESSFUL", nil, http.StatusOK, &states)
	check(len(states.Results) == 1 && states.Results[0].State == "SUCCESSFUL", "the one collection is restored")
}

// Makes a call for which this release of the SDK has no function.
func (d drive) call(method, path string, body any, status int, into any) {
	var sent bytes.Buffer
	if body != nil {
		must(json.NewEncoder(&sent).Encode(body), "write a body")
	}
	request, err := http.NewRequestWithContext(d.ctx, method, env("EBBTIDE_URL")+path, &sent)
	must(err, "make a request")
	request.Header.Set("Accept", "application/vnd.atlas.2025-03-12+json")
	if body != nil {
		request.Header.Set("Content-Type", "application/vnd.atlas.2025-03-12+json")
	}
	response, err := d.sdk.GetConfig().HTTPClient.Do(request)
	must(err, method+" "+path)
	defer response.Body.Close()
	check(response.StatusCode == status, fmt.Sprintf("%s %s answers %d, not %d", method, path, status, response.StatusCode))
	must(json.NewDecoder(response.Body).Decode(into), "read the answer to "+path)
}

func (d drive) download(snapshot string) {
	job, _, err := d.sdk.CloudBackupsApi.CreateBackupRestoreJob(d.ctx, d.group, d.cluster, &admin.DiskBackupSnapshotRestoreJob{
		DeliveryType: "download", SnapshotId: &snapshot,
	}).Execute()
	must(err, "create a download job")
	until("download job "+job.GetId(), func() (bool, string) {
		now, _, err := d.sdk.CloudBackupsApi.GetBackupRestoreJob(d.ctx, d.group, d.cluster, job.GetId()).Execute()
		must(err, "get the download job")
		return len(now.GetDeliveryUrl()) == 1, "preparing"
	})
	response, err := d.sdk.CloudBackupsApi.CancelBackupRestoreJob(d.ctx, d.group, d.cluster, job.GetId()).Execute()
	must(err, "cancel the download job")
	check(response.StatusCode == http.StatusNoContent, "a cancel answers 204")
	now, _, err := d.sdk.CloudBackupsApi.GetBackupRestoreJob(d.ctx, d.group, d.cluster, job.GetId()).Execute()
	must(err, "get the cancelled job")
	check(now.GetCancelled() && len(now.GetDeliveryUrl()) == 0, "a cancelled download has no URL any more")
}

func (d drive) lists() {
	page, _, err := d.sdk.CloudBackupsApi.ListBackupRestoreJobs(d.ctx, d.group, d.cluster).ItemsPerPage(1).Execute()
	must(err, "list restore jobs")
	check(len(page.GetResults()) == 1 && page.GetTotalCount() >= 2, "a page of one, of at least two")
	snapshots, _, err := d.sdk.CloudBackupsApi.ListReplicaSetBackups(d.ctx, d.group, d.cluster).Execute()
	must(err, "list snapshots")
	check(len(snapshots.GetResults()) >= 1, "the snapshot is listed")
	legacy, _, err := d.sdk.LegacyBackupApi.ListLegacyBackupRestoreJobs(d.ctx, d.group, d.cluster).Execute()
	must(err, "list legacy restore jobs")
	check(legacy.GetTotalCount() >= 2, "the legacy list shows the same jobs")
}

func (d drive) retentionAndDelete(snapshot string) {
	_, _, err := d.sdk.CloudBackupsApi.UpdateSnapshotRetention(d.ctx, d.group, d.cluster, snapshot, &admin.BackupSnapshotRetention{RetentionUnit: "DAYS", RetentionValue: 3}).Execute()
	must(err, "change the retention")
	_, err = d.sdk.CloudBackupsApi.DeleteReplicaSetBackup(d.ctx, d.group, d.cluster, snapshot).Execute()
	must(err, "delete the snapshot")
	_, response, err := d.sdk.CloudBackupsApi.CreateBackupRestoreJob(d.ctx, d.group, d.cluster, &admin.DiskBackupSnapshotRestoreJob{
		DeliveryType: "automated", SnapshotId: &snapshot, TargetClusterName: &d.cluster, TargetGroupId: &d.group,
	}).Execute()
	refused(response, err, http.StatusConflict, "CANNOT_START_RESTORE_JOB_FOR_DELETED_SNAPSHOT")
}

func (d drive) serverlessJobs() {
	jobs, _, err := d.sdk.CloudBackupsApi.ListServerlessBackupRestoreJobs(d.ctx, d.group, d.serverless).Execute()
	must(err, "list serverless restore jobs")
	check(jobs.Results != nil, "the list is there, even when empty")
	_, response, err := d.sdk.CloudBackupsApi.ListServerlessBackupRestoreJobs(d.ctx, d.group, d.cluster).Execute()
	refused(response, err, http.StatusBadRequest, "CANNOT_USE_CLUSTER_IN_SERVERLESS_INSTANCE_API")
}

func until(what string, done func() (bool, string)) {
	last := ""
	for end := time.Now().Add(jobPatience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		ready, state := done()
		if ready {
			return
		}
		check(state != "failed", what+" failed")
		last = state
	}
	must(errors.New("still "+last), what)
}

// Checks that a call was refused with a status and an Atlas error code.
func refused(response *http.Response, err error, status int, code string) {
	check(response != nil && response.StatusCode == status, fmt.Sprintf("%s answers %d, got %v", code, status, err))
	check(admin.IsErrorCode(err, code), fmt.Sprintf("the code is %s, got %v", code, err))
}

func check(holds bool, what string) {
	if !holds {
		must(errors.New("does not hold"), what)
	}
}

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func env(name string) string {
	value := os.Getenv(name)
	if value == "" {
		fmt.Fprintf(os.Stderr, "%s is not set\n", name)
		os.Exit(2)
	}
	return value
}
