"""The loop on embedded digits: train, export, score, compare with truth, report."""

from pathlib import Path

import wsx

if __name__ == "__main__":
    data = wsx.DataSpec("digits", n_train=800, n_valid=100, n_test=897)
    config = wsx.RunConfig("nasbench201", wsx.RECIPES["digits"], data, seed=0)
    run = wsx.train_supernet(config, Path("run"))
    subnets = wsx.RunSubnets(run, bn="calibrated:4x200")
    wsx.export_run(subnets, Path("subnets"), choice=wsx.ArchChoice(n=32))
    archs = wsx.ArchChoice(n=160, measure="reachable")  # those that the packaged truth knows
    wsx.evaluate_run(subnets, Path("scores.h5"), choice=archs)
    comparison = wsx.compare(Path("scores.h5"), truth="digits-nasbench201")
    print(comparison.as_dict()["summary"]["metrics"]["kendall_tau"])
    wsx.report_comparison(comparison, Path("report.html"), title="NAS-Bench-201 on digits")
