// What a dashboard is, by Grafana's own types: those of the schema, and of the options of each kind of panel.
import type { Dashboard, DataSourceRef, Panel, RowPanel } from '@grafana/schema';
import type * as Stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as Table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as TimeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the values of enums, not their members.
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer Item)[] ? Plain<Item>[]
  : T extends object ? { [Key in keyof T]: Plain<T[Key]> }
  : T;
type Of<Kind extends string, Options, Custom> = Omit<Plain<Panel>, 'type' | 'options' | 'fieldConfig'> & {
  type: Kind;
  options: Partial<Plain<Options>>;
  fieldConfig: {
    defaults: Omit<NonNullable<Plain<Panel>['fieldConfig']>['defaults'], 'custom'> & { custom?: Partial<Plain<Custom>> };
    overrides: NonNullable<Plain<Panel>['fieldConfig']>['overrides'];
  };
};
type Panels = Plain<RowPanel>
  | Of<'stat', Stat.Options, never>
  | Of<'table', Table.Options, Table.FieldConfig>
  | Of<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>;
type Checked = Omit<Plain<Dashboard>, 'panels'> & { panels: Panels[] };
