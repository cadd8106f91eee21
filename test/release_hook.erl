%% What every suite of the executable has around it: the release is built, each
%% case has a port of its own, and what was started for that port ends with it.
-module(release_hook).

-export([cases/1]).
-export([init/2, pre_init_per_suite/3, pre_init_per_testcase/4, post_end_per_testcase/5]).

%% @doc The test cases of a suite: its functions of one argument.
-spec cases(module()) -> [atom()].
cases(Suite) ->
    Others = [module_info, init_per_suite, end_per_suite],
    [Case || {Case, 1} <- Suite:module_info(exports), not lists:member(Case, Others)].

init(_Id, _Options) ->
    {ok, undefined}.

pre_init_per_suite(_Suite, Config, State) ->
    ct:timetrap({minutes, 20}),
    _ = release:root(),
    {Config, State}.

pre_init_per_testcase(_Suite, _Case, Config, State) ->
    {[{port, release:port()} | Config], State}.

post_end_per_testcase(_Suite, _Case, Config, Result, State) ->
    ok = release:end_all(proplists:get_value(port, Config)),
    {Result, State}.
