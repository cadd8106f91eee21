%% @doc The supervisors. The one that the application stands on has no name and
%% only restarts the other, `portmapper_sup', so that the death of any named
%% process leaves the application running. Where {@link portmapper_epmd} has started
%% the server, it stands on such a pair too; there is one `portmapper_sup' then, and
%% the end of the one pair has it started in the other.
-module(portmapper_sup).
-behaviour(supervisor).

-export([start_link/0, start_link/1]).
-export([start_child/2]).
-export([init/1]).

%% Milliseconds between two starts of a child. The server goes on without its
%% processes, so one that dies again and again does not end the application:
%% it is restarted, but no faster than this.
-define(PAUSE, 100).
%% More than the pause allows (supervisors count whole seconds).
-define(INTENSITY, 30).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    start_result(supervisor:start_link(?MODULE, top)).

%% @private
-spec start_link(services) -> {ok, pid()} | ignore | {error, term()}.
start_link(services) ->
    case portmapper_registration:decides() andalso not portmapper_server:serves() of
        true ->
            ignore;
        false ->
            case supervisor:start_link({local, ?MODULE}, ?MODULE, services) of
                %% In the other pair.
                {error, {already_started, _Pid}} -> ignore;
                Result -> start_result(Result)
            end
    end.

%% No supervisor of ours is `ignore' by itself.
-spec start_result(supervisor:startlink_ret()) -> {ok, pid()} | {error, term()}.
start_result({ok, _Pid} = Ok) -> Ok;
start_result({error, _Reason} = Error) -> Error.

%% @private
-spec start_child(module(), list()) -> supervisor:startchild_ret() | ignore.
start_child(Module, Arguments) ->
    ok = pause(get({started, Module})),
    Started = apply(Module, start_link, Arguments),
    _ = put({started, Module}, erlang:monotonic_time(millisecond)),
    Started.

pause(undefined) -> ok;
pause(Last) -> timer:sleep(max(0, Last + ?PAUSE - erlang:monotonic_time(millisecond))).

%% @private
-spec init(top | services) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(top) ->
    Services = child(?MODULE, supervisor, [services]),
    {ok, {flags(), [Services, child(portmapper_relief, worker, [self()])]}};
init(services) ->
    %% Transient: it ends with the server, if that was asked for.
    Server = child(portmapper_server, worker, []),
    {ok, {flags(), [Server#{restart => transient}, child(portmapper_events, worker, [])]}}.

flags() ->
    #{intensity => ?INTENSITY, period => 1}.

child(Module, Type, Arguments) ->
    #{
        id => Module,
        start => {?MODULE, start_child, [Module, Arguments]},
        type => Type,
        %% Who is suspended while the code of this module is replaced.
        modules => [Module]
    }.
